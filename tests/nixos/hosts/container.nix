# No initrd: the running system mounts all entries.
{
  boot.isContainer = true;
  environment.persistence."/persist".directories = [ "/var/lib/nixos" ];
}
