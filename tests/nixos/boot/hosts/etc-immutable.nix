# An overlay on /etc that cannot be written to.
{
  imports = [ ./etc-mutable.nix ];
  system.etc.overlay.mutable = false;
}
