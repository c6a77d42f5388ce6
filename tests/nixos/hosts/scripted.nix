# The initrd that is a shell script.
{
  imports = [ ./simple.nix ];
  boot.initrd.systemd.enable = false;
}
