# No emergency mode: late entries are guarded after a failure.
{
  imports = [ ./late-disk.nix ];
  systemd.enableEmergencyMode = false;
}
