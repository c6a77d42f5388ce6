# The same, whose build fails.
{ lib, ... }:
{
  imports = [ ./audit.nix ];
  imp-mount.audit.level = lib.mkForce "error";
}
