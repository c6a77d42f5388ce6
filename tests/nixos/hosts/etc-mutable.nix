# An overlay on /etc.
{
  imports = [ ./simple.nix ];
  system.etc.overlay.enable = true;
  environment.persistence."/persist".directories = [ "/etc/NetworkManager/system-connections" ];
}
