# A system for a computer with a kernel of its own, and its virtual machine by `nixos-rebuild build-vm`.
{
  lib,
  machine,
  pkgs,
  ...
}:
{
  boot.kernelPackages = lib.mkOverride 40 (
    import ./kernel.nix {
      final = pkgs;
      debian = machine;
    }
  );
  # NixOS's udev looks for its rules in its own package.
  boot.initrd.systemd.contents."/usr/lib/udev/rules.d".source =
    "${pkgs.debianTree}/usr/lib/udev/rules.d";
  # systemd-shutdown opens the first library at run time, and the first needs the second.
  systemd.shutdownRamfs.storePaths =
    map (name: "${pkgs.debianTree}/usr/lib/x86_64-linux-gnu/${name}")
      [
        "libmount.so.1"
        "libpcre2-8.so.0"
      ];
  virtualisation.vmVariant = {
    # The console is the terminal.
    virtualisation.graphics = false;
    virtualisation.memorySize = 2048;
    virtualisation.qemu.guestAgent.enable = false;
    # The script of a scenario, from the directory shared by the two machines.
    systemd.tmpfiles.rules = [ "L /run/probe - - - - /tmp/shared/probe" ];
    systemd.services.probe.after = [ "imp-mount-look.service" ];
  };
}
