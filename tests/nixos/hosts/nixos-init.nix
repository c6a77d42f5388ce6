# No shell in the boot at all.
{
  imports = [ ./etc-immutable.nix ];
  system.nixos-init.enable = true;
}
