# Two stores, and presets without a choice of one.
{ lib, ... }:
{
  imports = [ ./yields.nix ];
  environment.persistence."/third".directories = [ "/opt/third" ];
  imp-mount.persist.store = lib.mkForce null;
}
