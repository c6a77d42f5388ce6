# Users created by a service of the running system.
{
  imports = [ ./plain.nix ];
  services.userborn.enable = true;
}
