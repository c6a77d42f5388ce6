# Replace with the output of `nixos-generate-config --no-filesystems --show-hardware-config` on the machine.
{ lib, ... }:
{
  boot.initrd.availableKernelModules = [
    "ahci"
    "nvme"
    "sd_mod"
    "usb_storage"
    "virtio_blk"
    "virtio_pci"
    "xhci_pci"
  ];
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
}
