# No emergency mode: what is mounted late, and fails, is guarded.
{
  imports = [ ./late-disk.nix ];
  systemd.enableEmergencyMode = false;
}
