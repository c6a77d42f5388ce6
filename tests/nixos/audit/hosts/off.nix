# The audit is off.
{
  imports = [ ./bare.nix ];
  imp-mount.audit.level = "off";
}
