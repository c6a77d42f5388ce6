# Switched off, whatever persists.
{
  imports = [ ./drop-in.nix ];
  imp-mount.enable = false;
}
