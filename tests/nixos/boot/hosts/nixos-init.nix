# No shell in the initrd: NixOS's own program sets up the system.
{
  imports = [ ./etc-immutable.nix ];
  system.nixos-init.enable = true;
}
