# The plain example host, its disk with btrfs.
{
  imports = import ../plain.nix {
    disk = "disko-btrfs.nix";
    disko = ../disko.nix;
  };
  # The evaluation finds no state that would be lost.
  imp-mount.audit.level = "error";
}
