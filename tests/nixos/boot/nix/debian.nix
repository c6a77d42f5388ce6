# Additions for Debian's systemd: its programs look for each other, and for mount(8), in /usr. NixOS's has patches in their place.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  systemd = config.systemd.package;
  # Only the generators of NixOS's initrd: PID 1 would run every generator there.
  usrLibSystemd = pkgs.runCommand "usr-lib-systemd" { } ''
    mkdir -p $out/system-generators
    ln -s ${systemd}/lib/systemd/systemd $out/systemd
    for name in systemd-executor systemd-fsck systemd-journald systemd-makefs systemd-modules-load systemd-remount-fs \
      systemd-shutdown systemd-sulogin-shell systemd-sysctl systemd-sysroot-fstab-check \
      system-generators/systemd-{debug,fstab,run}-generator; do
      [ ! -e ${systemd}/lib/systemd/$name ] || ln -s ${systemd}/lib/systemd/$name $out/$name
    done
  '';
  # systemd opens libraries at run time.
  dlopen = source: {
    inherit source;
    dlopen = {
      usePriority = "recommended";
      features = [ ];
    };
  };
in
{
  boot.initrd.systemd = {
    suppressedStorePaths = [ "${systemd}/lib/systemd/systemd-bsod" ];
    contents."/usr/lib/systemd".source = usrLibSystemd;
    extraBin.sulogin = "${pkgs.util-linux}/bin/sulogin";
    storePaths =
      map dlopen [
        "${systemd}/lib/systemd/systemd"
        "${pkgs.debianTree}/usr/lib/x86_64-linux-gnu/systemd"
      ]
      ++ map (name: "${pkgs.debianTree}/usr/lib/x86_64-linux-gnu/lib${name}") [
        "acl.so.1"
        "apparmor.so.1"
        "audit.so.1"
        "blkid.so.1"
        "cap.so.2"
        "crypt.so.1"
        "gcc_s.so.1"
        "kmod.so.2"
        "lz4.so.1"
        "lzma.so.5"
        "mount.so.1"
        "pam.so.0"
        "seccomp.so.2"
        "selinux.so.1"
        "zstd.so.1"
      ];

    # Links in the new root, made before anything runs there.
    services.usr = {
      unitConfig.DefaultDependencies = false;
      after = [
        "imp-mount.service"
        "initrd-switch-root.target"
      ];
      before = [
        "initrd-nixos-activation.service"
        "initrd-switch-root.service"
      ];
      requiredBy = [ "initrd-switch-root.service" ];
      serviceConfig.Type = "oneshot";
      script = ''
        mkdir -p /sysroot/usr/lib /sysroot/usr/bin /sysroot/usr/sbin
        ln -sfn ${systemd}/lib/systemd /sysroot/usr/lib/systemd
        ln -sfn ${systemd}/lib/udev /sysroot/usr/lib/udev
        ln -sfn ${pkgs.debianTree}/usr/lib/openssh /sysroot/usr/lib/openssh
        ln -sfn ${pkgs.debianTree}/usr/lib64 /sysroot/lib64
        # Folder in which mount(8) looks for mount.TYPE.
        ln -sfn /run/current-system/sw/bin /sysroot/sbin
        programs=(/sysroot${systemd}/bin/*)
        ln -sf -t /sysroot/usr/bin "''${programs[@]#/sysroot}"
        for name in mount umount swapon swapoff sulogin agetty fsck; do
          ln -sfn ${pkgs.util-linux}/bin/$name /sysroot/usr/bin/$name
          ln -sfn ${pkgs.util-linux}/bin/$name /sysroot/usr/sbin/$name
        done
      '';
    };
  };
  # NixOS's systemd is patched never to unmount these two.
  systemd.units = lib.genAttrs [ "nix.mount" "nix-store.mount" ] (_: {
    overrideStrategy = "asDropin";
    text = "[Unit]\nDefaultDependencies=no\n";
  });
  systemd.services.lastlog2-import.enable = lib.mkForce false;
  systemd.tmpfiles.rules = [ "d /run/sshd 0755 root root -" ];
}
