# A read-only overlay on /etc.
{
  imports = [ ./etc-mutable.nix ];
  system.etc.overlay.mutable = false;
}
