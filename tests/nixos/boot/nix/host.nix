# The common part of all hosts: NixOS without all parts unneeded for a boot. No setting here is about imp-mount.
{ lib, pkgs, ... }:
{
  system.stateVersion = "26.05";
  nixpkgs.hostPlatform = lib.mkForce "x86_64-linux";
  networking.hostName = lib.mkDefault "machine";
  users.users.root.hashedPassword = "";
  users.users.ada = {
    isNormalUser = true;
    uid = 1000;
    homeMode = "0750";
  };

  boot.kernelPackages = lib.mkForce pkgs.linuxPackages;
  boot.loader.grub.enable = lib.mkForce false;
  boot.loader.systemd-boot.enable = lib.mkForce false;
  boot.initrd.allowMissingModules = true;
  boot.initrd.includeDefaultModules = false;
  boot.initrd.systemd.enable = true;
  boot.initrd.systemd.emergencyAccess = lib.mkDefault true;
  boot.initrd.systemd.tpm2.enable = false;
  boot.initrd.services.bcache.enable = false;
  boot.initrd.services.lvm.enable = false;
  boot.bcache.enable = false;
  boot.enableContainers = false;
  hardware.enableRedistributableFirmware = false;
  hardware.firmware = lib.mkForce [ ];

  console.enable = false;
  documentation.enable = false;
  documentation.doc.enable = false;
  documentation.info.enable = false;
  documentation.man.enable = false;
  documentation.nixos.enable = false;
  environment.stub-ld.enable = false;
  fonts.fontconfig.enable = false;
  i18n.defaultLocale = "C.UTF-8";
  i18n.glibcLocales = pkgs.glibcLocales;
  networking.dhcpcd.enable = false;
  networking.firewall.enable = lib.mkForce false;
  networking.resolvconf.enable = false;
  networking.useDHCP = false;
  nix.enable = false;
  programs.bash.completion.enable = false;
  programs.command-not-found.enable = false;
  programs.fuse.enable = false;
  programs.nano.enable = false;
  security.pki.installCACerts = false;
  security.polkit.enable = lib.mkForce false;
  security.rtkit.enable = false;
  security.sudo.enable = false;
  services.dbus.implementation = "dbus";
  services.fstrim.enable = false;
  services.logrotate.enable = false;
  services.lvm.enable = false;
  services.nscd.enable = false;
  services.resolved.enable = false;
  services.timesyncd.enable = lib.mkForce false;
  services.userdbd.enable = false;
  system.disableInstallerTools = true;
  system.nssModules = lib.mkForce [ ];
  systemd.coredump.enable = false;
  systemd.oomd.enable = false;
  systemd.tpm2.enable = false;
  xdg.autostart.enable = false;
  xdg.icons.enable = false;
  xdg.mime.enable = false;
  xdg.sounds.enable = false;

  environment.defaultPackages = [ ];
  environment.corePackages = lib.mkForce (
    with pkgs;
    [
      acl
      attr
      bashInteractive
      coreutils
      diffutils
      findutils
      gawk
      getent
      gnugrep
      gnused
      gnutar
      gzip
      jq
      less
      procps
      rsync
      shadow
      util-linux
      which
    ]
  );
}
