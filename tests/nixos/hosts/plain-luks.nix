# The plain example host, its disk with luks.
{
  imports = import ../plain.nix {
    disk = "disko-luks.nix";
    disko = ../disko.nix;
  };
  # The evaluation finds no state that would be lost.
  imp-mount.audit.level = "error";
}
