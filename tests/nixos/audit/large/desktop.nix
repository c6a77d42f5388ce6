# A desktop.
{ lib, ... }:
{
  imports = [ ../common.nix ];
  imp-mount.persist.store = "/persist";
  services = {
    desktopManager.plasma6.enable = true;
    displayManager.sddm.enable = true;
    flatpak.enable = true;
    fprintd.enable = true;
    fwupd.enable = true;
    openssh.enable = true;
    printing.enable = true;
    accounts-daemon.enable = true;
    colord.enable = true;
    pipewire.enable = true;
  };
  xdg.portal.enable = true;
  hardware.bluetooth.enable = true;
  networking.networkmanager.enable = true;
  security.sudo.enable = true;
  virtualisation.podman.enable = true;
  users.users.ada.isNormalUser = true;
}
