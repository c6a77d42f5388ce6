# The system of a host with the module, or with its options alone, for a comparison of their evaluation.
{
  nixpkgs,
  # The entries: `small`, `many`, or the example.
  name,
  module ? null,
}:
let
  lib = import (nixpkgs + "/lib");
  hosts = {
    small = {
      imports = [ ./common.nix ];
      environment.persistence."/persist" = {
        directories = [
          "/var/lib/nixos"
          "/var/lib/systemd"
          "/var/log"
          {
            directory = "/var/lib/colord";
            mode = "0750";
          }
        ];
        files = [
          "/etc/machine-id"
          "/etc/ssh/ssh_host_ed25519_key"
        ];
        users.ada = {
          directories = [
            "Documents"
            {
              directory = ".ssh";
              mode = "0700";
            }
          ];
          files = [ ".screenrc" ];
        };
      };
    };
    many = {
      imports = [ ./common.nix ];
      environment.persistence."/persist".directories = [
        "/var/lib/nixos"
      ]
      ++ lib.genList (number: "/srv/${toString number}") 1000;
    };
    cassie-box.imports = [
      ../audit/disko.nix
      ../../../nixos-module/examples/cassie-box/default.nix
      ../../../nixos-module/examples/cassie-box/disko.nix
    ];
  };

  # Options without an effect.
  nothing = {
    options.environment.persistence = lib.mkOption { type = lib.types.raw; };
    options.imp-mount = lib.mkOption {
      type = lib.types.lazyAttrsOf lib.types.raw;
      default = { };
    };
  };
in
(import (nixpkgs + "/nixos/lib/eval-config.nix") {
  system = null;
  modules = [
    (if module == null then nothing else module)
    hosts.${name}
    {
      nixpkgs.hostPlatform = "x86_64-linux";
      nixpkgs.overlays = (import ../nixpkgs.nix nixpkgs).overlays;
      system.stateVersion = "26.05";
      fileSystems."/" = lib.mkDefault {
        device = "none";
        fsType = "tmpfs";
        options = [ "mode=755" ];
      };
    }
  ];
}).config.system.build.toplevel.drvPath
