# The plain example host.
{
  imports = import ../plain.nix {
    disk = "disko.nix";
    disko = ../disko.nix;
  };
  # Nothing that the evaluation sees would be lost.
  imp-mount.audit.level = "error";
}
