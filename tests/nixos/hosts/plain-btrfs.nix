# The plain example host, its disk with btrfs.
{
  imports = import ../plain.nix {
    disk = "disko-btrfs.nix";
    disko = ../disko.nix;
  };
  # Nothing that the evaluation sees would be lost.
  imp-mount.audit.level = "error";
}
