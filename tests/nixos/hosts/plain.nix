# The plain example host.
{
  imports = import ../plain.nix {
    disk = "disko.nix";
    disko = ../disko.nix;
  };
  # The evaluation finds no state that would be lost.
  imp-mount.audit.level = "error";
}
