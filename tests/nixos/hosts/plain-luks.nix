# The plain example host, its disk with luks.
{
  imports = import ../plain.nix {
    disk = "disko-luks.nix";
    disko = ../disko.nix;
  };
  # Nothing that the evaluation sees would be lost.
  imp-mount.audit.level = "error";
}
