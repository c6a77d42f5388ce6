# A configuration for nix-community/preservation.
{ product, ... }:
{
  imports = [
    product
    ../nix/file-systems.nix
    ../../machines/preservation.nix
  ];
  services.openssh.enable = true;
}
