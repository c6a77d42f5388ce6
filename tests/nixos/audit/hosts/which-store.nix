# Two stores, and presets that do not say which.
{ lib, ... }:
{
  imports = [ ./yields.nix ];
  environment.persistence."/third".directories = [ "/opt/third" ];
  imp-mount.persist.store = lib.mkForce null;
}
