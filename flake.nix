{
  description = "A tmpfs root with everything that you named on disk";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forSystems = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      # home-manager gets its module from the NixOS module; who imports it by hand is told so.
      homeManager = ./nixos-module/interfaces/home-manager.nix;
    in
    {
      nixosModules = {
        default = ./nixos-module;
        impermanence = ./nixos-module;
        preservation = ./nixos-module;
        home-manager.impermanence = homeManager;
      };
      nixosModule = ./nixos-module;
      homeManagerModules = {
        default = homeManager;
        impermanence = homeManager;
      };

      packages = forSystems (pkgs: rec {
        default = imp-mount;
        imp-mount = pkgs.callPackage ./nixos-module/package.nix { };
        imp-mount-initrd = imp-mount.initrd;
        # Smaller, of packages that few have built.
        imp-mount-initrd-musl = (pkgs.pkgsStatic.callPackage ./nixos-module/package.nix { }).initrd;
      });

      checks = forSystems (
        pkgs:
        {
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) imp-mount;
        }
        // import ./tests/nixos/vm { inherit pkgs; }
      );

      # Every tool of tests/run --full and CONTRIBUTING.md.
      devShells = forSystems (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.imp-mount ];
          packages = [
            pkgs.acl
            pkgs.btrfs-progs
            pkgs.cargo-deny
            pkgs.cargo-nextest
            pkgs.clippy
            pkgs.cpio
            pkgs.e2fsprogs
            pkgs.fish
            pkgs.groff
            pkgs.jq
            pkgs.nixfmt
            pkgs.rust-analyzer
            pkgs.rustfmt
            pkgs.shellcheck
            pkgs.tmux
            pkgs.util-linux
            pkgs.xfsprogs
            pkgs.zsh
            pkgs.zstd
          ];
        };
      });

      formatter = forSystems (pkgs: pkgs.nixfmt-tree);
    };
}
