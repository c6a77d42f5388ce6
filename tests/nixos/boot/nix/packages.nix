# nixpkgs on this machine's compiler (nixpkgs' own pkgs/stdenv/native), with stand-ins for packages: programs of an unpacked Debian,
# patched to run from the Nix store. NixOS's modules, and its own programs, are real.
{
  nixpkgs,
  # Folders with an unpacked Debian, with NixOS's own programs, and with Debian's QEMU.
  debian,
  programs,
  machine,
}:
let
  lib = import (nixpkgs + "/lib");

  # A package with one output under all names, which no override changes.
  standIn =
    drv: more:
    let
      self =
        drv
        // lib.genAttrs [
          "out"
          "bin"
          "dev"
          "lib"
          "man"
          "doc"
          "debug"
          "getent"
          "host"
          "dnsutils"
          "p11kit"
          "terminfo"
          "login"
          "mount"
          "swap"
          "su"
          "withPatches"
          "withSystemd"
        ] (_: self)
        // {
          version = "0";
          pname = drv.name;
          meta = {
            description = drv.name;
            license = lib.licenses.mit;
          }
          // drv.meta or { };
          override = _: self;
          overrideAttrs = _: self;
        }
        // more;
    in
    self;

  # Packages without another definition here are empty.
  empty =
    final: name:
    standIn (final.runCommand name {
      meta.mainProgram = name;
    } "mkdir -p $out/bin $out/lib $out/etc $out/share") { };
  ofNixpkgs = [
    "replaceVars"
    "replaceVarsWith"
    "makeBinaryWrapper"
    "makeWrapper"
    "installShellFiles"
    "emptyFile"
    "emptyDirectory"
    "nukeReferences"
    "makeSetupHook"
    "makeDBusConf"
  ];
  byName =
    final: _:
    let
      folder = nixpkgs + "/pkgs/by-name";
      names = lib.concatMap (
        shard:
        lib.optionals (builtins.pathExists (folder + "/${shard}/.") && builtins.stringLength shard == 2) (
          lib.attrNames (builtins.readDir (folder + "/${shard}"))
        )
      ) (lib.attrNames (builtins.readDir folder));
    in
    removeAttrs (lib.genAttrs names (empty final)) ofNixpkgs;

  # Packages with the program of their name, empty packages, and packages of other programs of Debian.
  ofDebian =
    lib.genAttrs (lib.splitString " " "bzip2 cpio getent jq less logrotate rsync strace which xz zstd") lib.id
    // lib.genAttrs (lib.splitString " " "fuse iputils libxcrypt mkpasswd nano netcat") (_: "")
    // {
      acl = "getfacl setfacl";
      attr = "getfattr setfattr";
      bash = "bash sh";
      composefs = "mkcomposefs";
      diffutils = "diff cmp";
      dosfstools = "fsck.vfat mkfs.vfat";
      e2fsprogs = "e2fsck fsck.ext4 fsck.ext2 fsck.ext3 mke2fs mkfs.ext4 mkfs.ext2 mkfs.ext3 tune2fs resize2fs chattr lsattr";
      erofs-utils = "fsck.erofs mkfs.erofs dump.erofs";
      findutils = "find xargs";
      fuse3 = "fusermount3";
      gawk = "gawk awk";
      gettext = "gettext gettext.sh envsubst";
      gnugrep = "grep egrep fgrep";
      gnupatch = "patch";
      gnused = "sed";
      gnutar = "tar";
      gzip = "gzip gunzip";
      inetutils = "hostname";
      iproute2 = "ip ss";
      kbd = "loadkeys setfont";
      kmod = "kmod modprobe lsmod insmod rmmod modinfo depmod";
      libcap = "setcap getcap capsh";
      libxml2 = "xmllint";
      libxslt = "xsltproc";
      net-tools = "hostname";
      procps = "ps free sysctl pgrep pkill uptime";
      sudo = "sudo visudo";
      coreutils =
        "[ b2sum base64 basename cat chgrp chmod chown chroot cksum comm cp csplit cut date dd df dirname du echo env expand "
        + "expr factor false fold head id install join link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc "
        + "numfmt od paste pathchk pr printenv printf pwd readlink realpath rm rmdir seq sha1sum sha256sum sha512sum shred shuf "
        + "sleep sort split stat stdbuf stty sum sync tac tail tee test timeout touch tr true truncate tsort tty uname unexpand "
        + "uniq unlink users vdir wc who whoami yes";
    };

  overlay =
    final: prev:
    let
      inherit (final) runCommand;
      # A package of links to programs of Debian, plus the results of a script.
      farm =
        name: words: script:
        let
          list = lib.filter (word: word != "") (lib.splitString " " words);
        in
        standIn (
          runCommand name
            {
              meta.mainProgram = lib.head (list ++ [ name ]);
              debian = final.debianTree;
            }
            ''
              mkdir -p $out/bin $out/lib $out/etc $out/share
              ln -s bin $out/sbin
              for program in ${lib.escapeShellArgs list}; do
                for folder in bin sbin; do
                  [ ! -e $debian/usr/$folder/$program ] || ln -sf $debian/usr/$folder/$program $out/bin/$program
                done
                [ -e $out/bin/$program ] || echo "Debian has no $program"
              done
              ${script}
            ''
        );
      simple = lib.mapAttrs (name: words: farm name words "" { }) ofDebian;
      libraries = "ln -s $debian/usr/lib/x86_64-linux-gnu/*.so* $out/lib/";
      # One of NixOS's own programs.
      own =
        name: script:
        standIn (runCommand name
          {
            meta.mainProgram = name;
            inherit programs;
            key = builtins.hashFile "sha256" (programs + "/${name}");
            debian = final.debianTree;
          }
          ''
            install -D -m 755 "$programs/${name}" $out/bin/${name}
            $debian/patch $out/bin/${name}
            ${script}
          ''
        ) { };
      perlPackage = _: empty final "perl-package";
    in
    simple
    // {
      debianTree =
        runCommand "debian"
          {
            inherit debian;
            key = builtins.readFile (debian + ".key");
          }
          ''
            bash ${./patch-tree} "$debian" $out
            # Does the same for one program from outside of Debian.
            cat > $out/patch <<END
            #!$out/usr/bin/bash
            lib=$out/usr/lib/x86_64-linux-gnu
            patchelf="$out/usr/bin/patchelf"
            ! \$patchelf --print-interpreter \$1 > /dev/null 2>&1 ||
              \$patchelf --set-interpreter \$lib/ld-linux-x86-64.so.2 --force-rpath --set-rpath \$lib \$1
            END
            chmod +x $out/patch
          '';

      makeInitrdNGTool = own "make-initrd-ng" "";
      switch-to-configuration-ng = own "switch-to-configuration" "";
      userborn = own "userborn" "";
      nixos-init = own "nixos-init" ''
        for name in initrd-init find-etc clear-etc-opaque resolve-in-root env-generator; do ln -s nixos-init $out/bin/$name; done
      '';

      bash = simple.bash // {
        shellPath = "/bin/bash";
      };
      bashNonInteractive = final.bash;
      bashInteractive = final.bash;
      runtimeShellPackage = final.bash;
      runtimeShell = "${final.bash}/bin/bash";
      coreutils-full = final.coreutils;
      unixtools = lib.mapAttrs (name: _: farm name name "" { }) prev.unixtools // {
        recurseForDerivations = false;
      };
      getconf = final.unixtools.getconf;
      ps = final.unixtools.ps;
      util-linux =
        farm "util-linux"
          (
            "mount umount findmnt mountpoint lsblk blkid flock fsck sulogin agetty login losetup swapon swapoff setpriv runuser su dmesg "
            + "logger unshare nsenter hwclock blockdev fstrim mkfs mkswap wipefs more kill uuidgen script switch_root getopt renice "
            + "ionice taskset prlimit"
          )
          ''
            mkdir -p $out/lib/systemd/system
            for name in fstrim.service fstrim.timer; do
              sed "s#=/usr/s\?bin/#=$debian/usr/sbin/#" $debian/usr/lib/systemd/system/$name > $out/lib/systemd/system/$name
            done
          ''
          {
            lastlog = runCommand "lastlog2" { } ''
              mkdir -p $out/lib/tmpfiles.d $out/lib/systemd/system
              touch $out/lib/tmpfiles.d/lastlog2.conf
            '';
          };
      util-linuxMinimal = final.util-linux;
      shadow = farm "shadow" "nologin useradd usermod groupadd passwd chpasswd login su newgrp sg chsh" ''
        for name in newuidmap newgidmap; do ln -s $debian/usr/sbin/nologin $out/bin/$name; done
      '' { shellPath = "/bin/nologin"; };
      pam =
        farm "pam" "unix_chkpwd faillock mkhomedir_helper"
          "ln -s $debian/usr/lib/x86_64-linux-gnu/security $out/lib/security"
          { };
      linux-pam = final.pam;
      openssh =
        farm "openssh" "ssh sshd ssh-keygen ssh-add ssh-agent scp sftp"
          "ln -s $debian/usr/lib/openssh $out/libexec"
          { };
      perl = farm "perl" "perl" "" {
        withPackages = _: final.perl;
        pkgs = final.perl;
        interpreter = "${final.perl}/bin/perl";
        libPrefix = "lib/perl5/site_perl";
      };
      perlPackages =
        lib.genAttrs [
          "JSON"
          "FileSlurp"
          "NetDBus"
          "XMLParser"
          "XMLTwig"
          "ConfigIniFiles"
        ] perlPackage
        // {
          makePerlPath = _: "";
          makeFullPerlPath = _: "";
        };
      python3 = farm "python3" "" "ln -s $(command -v python3) $out/bin/python3" { };
      python3Minimal = final.python3;
      ncurses = farm "ncurses" "" "ln -s $debian/usr/share/terminfo $out/share/terminfo" { };
      tzdata = farm "tzdata" "" "ln -s $debian/usr/share/zoneinfo $out/share/zoneinfo" { };

      glibc = farm "glibc" "getent ldd locale getconf" libraries { };
      libc = final.glibc;
      stdenv = prev.stdenv // {
        cc = prev.stdenv.cc // {
          libc = final.glibc;
        };
      };
      gcc = final.stdenv.cc;
      glibcLocales = standIn (runCommand "glibc-locales" { } ''
        mkdir -p $out/lib/locale
        touch $out/lib/locale/locale-archive
      '') { };
      glibcLocalesUtf8 = final.glibcLocales;
      linuxHeaders = final.emptyDirectory;
      # The wrappers of setuid programs are built here, by this machine's compiler.
      pkgsStatic.callPackage =
        path: args:
        (final.callPackage path (args // { inherit (final) unsecvars; })).overrideAttrs (old: {
          CFLAGS = (old.CFLAGS or [ ]) ++ [ "-static" ];
          hardeningDisable = [ "all" ];
        });
      unsecvars = final.writeTextDir "unsecvars.h" ''
        #define UNSECURE_ENVVARS "LD_PRELOAD\0LD_LIBRARY_PATH\0LD_AUDIT\0"
      '';

      # Machines boot without OVMF.
      OVMF = standIn final.emptyDirectory {
        fd = final.emptyDirectory // {
          systemManagementModeRequired = false;
        };
      };
      # QEMU runs on this machine, from its folder.
      qemu =
        standIn
          (runCommand "qemu" { inherit (final) runtimeShell; } ''
            mkdir -p $out/bin
            for name in qemu-img qemu-system-x86_64; do
              cat > $out/bin/$name <<END
            #!$runtimeShell
            tree=${machine}/usr
            [[ $name == qemu-img ]] || set -- -L \$tree/share/qemu -L \$tree/share/seabios "\$@"
            exec \$tree/lib64/ld-linux-x86-64.so.2 --library-path \$tree/lib/x86_64-linux-gnu \$tree/bin/$name "\$@"
            END
            done
            chmod +x $out/bin/*
          '')
          {
            inherit (final) stdenv;
          };
      mergerfs = farm "mergerfs" "mergerfs" "ln -s mergerfs $out/bin/mount.fuse.mergerfs" { };

      dbus =
        farm "dbus"
          "dbus-daemon dbus-send dbus-uuidgen dbus-run-session dbus-update-activation-environment dbus-monitor"
          ''
            cp -r --no-preserve=mode $debian/usr/share/dbus-1 $out/share/
            (cd $out/share/dbus-1 && rm -rf system-services system.d services session.d)
            mkdir -p $out/etc/systemd/{system,user} $out/lib/systemd/user $out/libexec
            ln -s $debian/usr/lib/dbus-1.0/dbus-daemon-launch-helper $out/libexec/
            for unit in dbus.service dbus.socket; do
              sed "s|/usr/bin/dbus|$out/bin/dbus|g; /^ExecStart=/s|--system |--config-file=/etc/dbus-1/system.conf |" \
                $debian/usr/lib/systemd/system/$unit > $out/etc/systemd/system/$unit
            done
            printf '%s\n' '[Socket]' 'ListenStream=%t/bus' > $out/etc/systemd/user/dbus.socket
            printf '%s\n' '[Unit]' 'Requires=dbus.socket' '[Service]' 'Type=notify' \
              "ExecStart=$out/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only" \
              > $out/etc/systemd/user/dbus.service
          ''
          { };

      systemd = import ./systemd.nix { inherit lib farm final; };
      systemdMinimal = final.systemd;
      systemdLibs = final.systemd;
      systemdUkify = final.systemd;
      udev = final.systemd;

      fetchpatch = _: final.emptyFile;
      fetchpatch2 = _: final.emptyFile;
      shellcheck-minimal = final.writeScriptBin "shellcheck" "#!${final.runtimeShell}\n" // {
        compiler.bootstrapAvailable = false;
      };
      shellcheck = final.shellcheck-minimal;
      lndir = final.writeScriptBin "lndir" ''
        #!${final.runtimeShell}
        while [ "$1" != "''${1#-}" ]; do shift; done
        exec cp -rs --no-clobber "$(realpath "''${1:?}")/." "''${2:-.}"
      '';
      kmod-blacklist-ubuntu =
        runCommand "kmod-blacklist-ubuntu" { }
          "mkdir $out; touch $out/modprobe.conf";
      kmod-debian-aliases = final.writeText "debian-aliases.conf" "";

      linuxPackages = import ./kernel.nix { inherit final; };
      linuxPackages_latest = final.linuxPackages;
      linuxKernel = prev.linuxKernel // {
        packages.linux_default = final.linuxPackages;
      };
    };
in
import nixpkgs {
  localSystem = "x86_64-linux";
  config = { };
  stdenvStages =
    args: lib.take 2 (import (nixpkgs + "/pkgs/stdenv/native") (removeAttrs args [ "crossOverlays" ]));
  overlays = [
    byName
    overlay
  ];
}
