# Switched off, whatever persists.
{
  imports = [ ./drop-in.nix ];
  system.activationScripts.theirs.deps = [ ];
  imp-mount.enable = false;
}
