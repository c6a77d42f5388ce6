# The plain example host.
{
  imports = import ../plain.nix {
    disk = "disko.nix";
    disko = ../disko.nix;
  };
}
