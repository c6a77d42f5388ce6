# The plain example host, its disk with btrfs.
{
  imports = import ../plain.nix {
    disk = "disko-btrfs.nix";
    disko = ../disko.nix;
  };
}
