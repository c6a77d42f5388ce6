{
  description = "A host with a tmpfs root";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    disko.url = "github:nix-community/disko";
    disko.inputs.nixpkgs.follows = "nixpkgs";
    # The place of this repository: git+https://HOST/PATH, or a clone, git+file:///home/ada/imp-mount
    imp-mount.url = "git+file:///home/ada/imp-mount";
    imp-mount.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      nixpkgs,
      disko,
      imp-mount,
      ...
    }:
    {
      nixosConfigurations.host = nixpkgs.lib.nixosSystem {
        modules = [
          disko.nixosModules.disko
          imp-mount.nixosModules.default
          ./hardware-configuration.nix
          # or ./disko-btrfs.nix, or ./disko-luks.nix
          ./disko.nix
          ./configuration.nix
        ];
      };
    };
}
