# The example host on the tests' disks, with Debian's mergerfs. Its services are configured and not started: their programs are
# missing here.
{
  lib,
  pkgs,
  product,
  ...
}:
{
  imports = [
    product
    ../../../../nixos-module/examples/cassie-box
  ];
  fileSystems."/persist" = {
    device = "/run/disks/persist";
    fsType = "ext4";
  };
  fileSystems."/nix" = {
    device = "/persist/nix";
    fsType = "none";
    options = [ "bind" ];
    depends = [ "/persist" ];
    neededForBoot = true;
  };
  fileSystems."/mnt/disk1".device = lib.mkForce "/run/disks/disk1";
  fileSystems."/mnt/disk2".device = lib.mkForce "/run/disks/disk2";
  fileSystems."/mnt/data".options = lib.mkAfter [ "minfreespace=1M" ];
  # There is no Nix.
  system.autoUpgrade.enable = lib.mkForce false;
  nixpkgs.config = lib.mkForce { };
  # Podman needs a compiler for Rust.
  virtualisation.podman.enable = lib.mkForce false;
  virtualisation.oci-containers.containers = lib.mkForce { };
  systemd.services =
    lib.genAttrs
      [
        "fail2ban"
        "mysql"
        "plex"
        "postgresql"
        "postgresql-setup"
        "sonarr"
      ]
      (_: {
        enable = lib.mkForce false;
      });
  services.mysql.package = lib.mkForce (pkgs.hello // { pname = "mariadb-server"; });
  services.postgresql.checkConfig = false;
  services.postgresql.package =
    let
      package = pkgs.hello // {
        psqlSchema = "17";
        version = "17";
        installedExtensions = [ ];
        withJIT = package;
        withoutJIT = package;
        withPackages = _: package;
        pkgs = { };
      };
    in
    package;
}
