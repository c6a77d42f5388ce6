# The example host, from its folder, with one of its disks.
{
  nixpkgs,
  folder,
  disk,
}:
import ./host.nix { inherit nixpkgs; } [
  ./disko.nix
  (folder + "/default.nix")
  (folder + "/${disk}")
]
