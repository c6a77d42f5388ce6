# Users that a service of the running system makes.
{
  imports = [ ./plain.nix ];
  services.userborn.enable = true;
}
