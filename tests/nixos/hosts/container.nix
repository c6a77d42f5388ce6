# No initrd: the running system does it all.
{
  boot.isContainer = true;
  environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
}
