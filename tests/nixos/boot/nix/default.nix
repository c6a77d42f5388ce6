# nix-build -A HOST.system: the toplevel of a host in ../hosts, for namespaces. HOST.computer: its configuration for a computer of
# its own, of which system.build.vm makes one. -A built: the package of the module.
{
  nixpkgs,
  # Folders: an unpacked Debian, NixOS's own programs, the product's.
  debian,
  programs,
  binaries,
  # Sources of other projects for a few hosts.
  sources ? "",
  # An unpacked Debian with QEMU and a kernel.
  machine ? "",
  # The folder of a Rust toolchain, for `built`.
  toolchain ? "",
}:
let
  pkgs = import ./packages.nix {
    inherit
      nixpkgs
      debian
      programs
      machine
      ;
  };
  inherit (pkgs) lib;

  package =
    name: list:
    pkgs.runCommand name
      {
        meta.mainProgram = "imp-mount";
        inherit binaries;
        debian = pkgs.debianTree;
        key = map (program: builtins.hashFile "sha256" "${binaries}/${program}") list;
      }
      ''
        mkdir -p $out/bin
        for program in ${toString list}; do
          install -m 755 "$binaries/$program" "$out/bin/''${program%.initrd}"
          $debian/patch "$out/bin/''${program%.initrd}"
        done
      '';
  product = {
    imports = [ ../../../../nixos-module ];
    imp-mount.package =
      package "imp-mount" [
        "imp-mount"
        "impctl"
      ]
      // {
        initrd = package "imp-mount-initrd" [ "imp-mount.initrd" ];
      };
    # Hosts for tests of the audit set this option.
    imp-mount.audit.level = lib.mkDefault "off";
  };

  evaluate =
    modules:
    import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = null;
      specialArgs = { inherit product sources machine; };
      modules = [
        ./host.nix
        ./debian.nix
        ./probe.nix
        { nixpkgs.pkgs = pkgs; }
      ]
      ++ modules;
    };
  host =
    module:
    let
      eval = evaluate [
        ./namespaces.nix
        module
      ];
    in
    {
      inherit (eval) config options;
      system = eval.config.system.build.toplevel;
      computer =
        (evaluate [
          ./computer.nix
          module
        ]).config;
    };
in
lib.mapAttrs' (file: _: {
  name = lib.removeSuffix ".nix" file;
  value = host (../hosts + "/${file}");
}) (lib.filterAttrs (file: _: lib.hasSuffix ".nix" file) (builtins.readDir ../hosts))
# For the scenario compare: `imp-mount-100` and so on.
// {
  built = import ./package.nix { inherit pkgs toolchain; };
}
// lib.listToAttrs (
  lib.mapCartesianProduct
    (it: {
      name = "${it.who}-${toString it.count}";
      value = host (import ./compare.nix it);
    })
    {
      who = [
        "nothing"
        "imp-mount"
        "impermanence"
        "preservation"
      ];
      count = [
        20
        100
        1000
      ];
    }
)
