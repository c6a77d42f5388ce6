# A configuration for nix-community/preservation: every kind of entry, of the system and of homes.
{
  users.users.bob = {
    isNormalUser = true;
    home = "/srv/bob";
  };
  preservation = {
    enable = true;
    preserveAt."/persist" = {
      commonMountOptions = [ "x-gvfs-hide" ];
      directories = [
        {
          directory = "/var/lib/nixos";
          inInitrd = true;
        }
        {
          directory = "/var/lib/app/data";
          user = "ada";
          group = "users";
          mode = "0750";
          configureParent = true;
          parent.mode = "0711";
          mountOptions = [
            "bind"
            "noexec"
            { name = "X-fstrim.notrim"; }
          ];
        }
        # Fields of tmpfiles.d.
        {
          directory = "/srv/defaults";
          user = "-";
          group = "-";
          mode = "-";
          configureParent = true;
          parent = {
            user = "-";
            group = "-";
            mode = ":0711";
          };
        }
        {
          directory = "/srv/once";
          user = ":ada";
          group = ":users";
          mode = ":~0750";
        }
        {
          directory = "/srv/link";
          how = "symlink";
        }
      ];
      files = [
        {
          file = "/etc/machine-id";
          inInitrd = true;
          how = "symlink";
          configureParent = true;
        }
        {
          file = "/etc/ssh/ssh_host_ed25519_key";
          how = "symlink";
          configureParent = true;
        }
        {
          file = "/etc/app/secret";
          mode = "0600";
          configureParent = true;
          parent.mode = "0700";
        }
        {
          file = "/etc/app/default";
          mode = "-";
        }
      ];
      users = {
        ada = {
          commonMountOptions = [ "x-gvfs-trash" ];
          directories = [
            "foo/bar/baz"
            {
              directory = ".ssh";
              mode = "0700";
            }
          ];
          files = [
            {
              file = ".symlinks/baz";
              how = "symlink";
              createLinkTarget = true;
            }
            {
              file = ".config/foo";
              mode = "0600";
            }
          ];
        };
        me = {
          username = "bob";
          files = [ ".histfile" ];
        };
        root = {
          home = "/root";
          directories = [ ".ssh" ];
        };
      };
    };
  };
}
