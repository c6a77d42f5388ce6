# The scripted initrd.
{
  imports = [ ./simple.nix ];
  boot.initrd.systemd.enable = false;
}
