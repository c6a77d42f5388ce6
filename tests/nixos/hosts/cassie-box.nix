# The example host, on the disk of a new install.
{
  imports = [
    ../audit/disko.nix
    ../../../nixos-module/examples/cassie-box
    ../../../nixos-module/examples/cassie-box/disko.nix
  ];
}
