# Debian's systemd in the form in which NixOS takes systemd: units and more in example/, with the store's paths in them.
{
  lib,
  farm,
  final,
}:
let
  # Units named by NixOS and missing in Debian.
  missing = [
    "breakpoint-pre-udev.service"
    "cryptsetup-pre.target"
    "cryptsetup.target"
    "remote-cryptsetup.target"
    "rpcbind.target"
    "sigpwr.target"
    "systemd-bsod.service"
    "systemd-vconsole-setup.service"
  ];
  # And the like in tmpfiles.d and sysctl.d.
  missingTmpfiles = [
    "credstore"
    "home"
    "journal-nocow"
    "portables"
    "static-nodes-permissions"
    "systemd-nologin"
    "systemd-nspawn"
    "systemd-tmp"
    "tmp"
    "var"
    "x11"
  ];
in
farm "systemd-debian"
  "systemctl journalctl udevadm loginctl busctl hostnamectl localectl timedatectl networkctl halt poweroff reboot shutdown"
  ''
    lib=$debian/usr/lib
    ln -s $debian/usr/bin/systemd-* $out/bin/
    mkdir -p $out/lib/{systemd,udev/hwdb.d} $out/example/{systemd,tmpfiles.d,sysctl.d,sysusers.d} $out/share/dbus-1

    # NixOS removes presets from the paths of PID 1.
    for path in $lib/systemd/*; do
      case ''${path##*/} in
        system | user | *-preset | *.conf.d | *.config.d | profile.d) ;;
        *) ln -s $path $out/lib/systemd/ ;;
      esac
    done
    for name in tmpfiles.d sysusers.d sysctl.d modprobe.d environment.d; do
      [ ! -e $lib/$name ] || ln -s $lib/$name $out/lib/$name
    done
    for path in $lib/udev/*; do ln -sf $path $out/lib/udev/; done
    rm -rf $out/lib/udev/hwdb.d
    mkdir $out/lib/udev/hwdb.d
    printf 'mouse:*:name:*stand-in:*\n MOUSE_DPI=1000@125\n' > $out/lib/udev/hwdb.d/20-stand-in.hwdb
    ln -s $lib/x86_64-linux-gnu/security $out/lib/security
    ln -s $lib/x86_64-linux-gnu/{libnss_,libsystemd,libudev}*.so* $out/lib/

    for name in tmpfiles.d sysctl.d sysusers.d; do ln -s $lib/$name/* $out/example/$name/; done
    for name in ${toString missingTmpfiles}; do
      [ -e $out/example/tmpfiles.d/$name.conf ] || touch $out/example/tmpfiles.d/$name.conf
    done
    for name in 50-default 50-coredump; do
      [ -e $out/example/sysctl.d/$name.conf ] || touch $out/example/sysctl.d/$name.conf
    done
    for name in system-services system.d services interfaces; do
      [ ! -e $debian/usr/share/dbus-1/$name ] || cp -r --no-preserve=mode $debian/usr/share/dbus-1/$name $out/share/dbus-1/
    done

    cp -r --no-preserve=mode $lib/systemd/system $lib/systemd/user $out/example/systemd/
    cd $out/example/systemd
    # Debian's own drop-ins, and units of other packages.
    rm -rf system/*.d/debian*.conf user/dbus* \
      system/{ssh,dbus.,polkit,sudo,e2scrub,logrotate,fstrim,keyboard,console-setup,rsync}* system/*.wants/{ssh,dbus.,e2scrub}*
    find . -type l -lname '*/usr/lib/systemd/*' -printf '%p\t%f\t%l\n' | while IFS=$'\t' read -r path name to; do
      ln -sfn "''${to##*/}" "$path"
    done
    kmod=${final.kmod}/bin mounts=${final.util-linux}/bin
    find . -type f -exec sed -i -E "
      s#/usr/lib/systemd/#$out/lib/systemd/#g
      s#([=|!:@+ -])/(usr/)?s?bin/(kmod|modprobe)#\1$kmod/\3#g
      s#([=|!:@+ -])/(usr/)?s?bin/(agetty|sulogin|mount|umount|swapon|fsck)#\1$mounts/\3#g
      s#([=|!:@+-])(/usr)?/s?bin/(systemd-[a-z-]+|systemctl|journalctl|udevadm|networkctl|loginctl|bootctl)#\1$out/bin/\3#g" {} +
    for unit in ${toString missing}; do
      [ -e system/$unit ] || case $unit in
        *.service) printf '[Service]\nType=oneshot\nExecStart=/run/current-system/sw/bin/true\n' > system/$unit ;;
        *) printf '[Unit]\nDescription=%s\n' $unit > system/$unit ;;
      esac
    done
  ''
  (
    {
      pname = "systemd";
      version = "262";
      inherit (final) kmod kbd util-linux;
      interfaceVersion = 2;
    }
    // lib.genAttrs (map (name: "with${name}") [
      "Acl"
      "Analyze"
      "Apparmor"
      "Audit"
      "Cryptsetup"
      "Hostnamed"
      "Hwdb"
      "Kmod"
      "Libseccomp"
      "Localed"
      "Logind"
      "Networkd"
      "Pam"
      "Selinux"
      "Sysusers"
      "Timedated"
    ]) (_: true)
    // lib.genAttrs (map (name: "with${name}") [
      "BootTpm2"
      "Bootloader"
      "Coredump"
      "Efi"
      "Fido2"
      "Gcrypt"
      "Homed"
      "Importd"
      "Iptables"
      "LibBPF"
      "LogTrace"
      "Machined"
      "Myhostname"
      "Nspawn"
      "Nss"
      "Oomd"
      "PasswordQuality"
      "Polkit"
      "Portabled"
      "Remote"
      "Repart"
      "Resolved"
      "ShellCompletions"
      "Sysupdate"
      "Sysupdated"
      "Timesyncd"
      "Tpm2"
      "Tpm2Tss"
      "Tpm2Units"
      "Ukify"
      "UserDb"
      "Utmp"
      "VConsole"
      "Vmspawn"
    ]) (_: false)
  )
