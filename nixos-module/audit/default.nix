# The audit: state of the host that the next boot would lose.
#
# `impctl audit` reads the built system: units, users, rules, scripts. The evaluation adds facts from options alone: services whose
# paths options choose, keys named by options, passwords stored nowhere else.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.imp-mount;
  paths = import ../paths.nix;
  inherit (import ./kept.nix { inherit lib; }) matches kept;
  message = import ./message.nix { inherit lib; };
  state = import ../presets/groups.nix { inherit config lib; };

  is = kept {
    inherit (cfg) entries;
    fileSystems = lib.attrValues config.fileSystems ++ map ofMount config.systemd.mounts;
    links = import ./links.nix { inherit config lib; };
  };
  ofMount = mount: {
    mountPoint = mount.where;
    device = mount.what;
    # Without a type the kernel probes the file system, as for fileSystems.
    fsType = if mount.type == "" then "auto" else mount.type;
  };
  isKept =
    row: if row ? directory then is.directory (row.data or row.directory) else is.file row.file;
  isChosen = row: row.chosen or false && is.chosen row.directory;
  isIgnored = path: lib.any (it: matches it.path path) cfg.audit.ignore;

  # A row of a table: the directory, or its missing parts.
  ofTable =
    preset: row:
    let
      found = path: why: class: {
        inherit path why class;
        fix = { inherit preset; };
      };
      missing = lib.filter (part: !is.directory part.path && !is.file part.path) row.parts;
    in
    if isKept row || isChosen row then
      [ ]
    else if row ? parts && lib.length missing < lib.length row.parts then
      map (part: found part.path part.why part.class) missing
    else
      lib.optional (row.audited or true) (
        found (row.directory or row.file) row.why (row.class or "data")
      );

  # Passwords set with passwd are in a file that programs replace by rename: no entry can keep the file.
  passwords =
    let
      unsaid =
        user:
        user.isNormalUser
        && lib.all (name: user.${name} or null == null) [
          "hashedPassword"
          "hashedPasswordFile"
          "password"
          "initialPassword"
          "initialHashedPassword"
        ]
        && user.openssh.authorizedKeys.keys == [ ]
        && user.openssh.authorizedKeys.keyFiles == [ ];
      userborn = config.services.userborn;
      shadow = paths.join [
        (if userborn.enable then userborn.passwordFilesLocation or "/etc" else "/etc")
        "shadow"
      ];
      users = lib.filterAttrs (_: user: user.enable or true && unsaid user) config.users.users;
      names = map (user: user.name) (lib.attrValues users);
    in
    lib.optional (config.users.mutableUsers && users != { } && !is.file shadow) {
      path = shadow;
      class = "key";
      why = "the only place where passwords are of ${lib.concatStringsSep ", " names}";
      fix.text = "users.users.${lib.head (lib.attrNames users)}.hashedPasswordFile = \"...\";";
    };

  fromTables = lib.concatLists (
    lib.mapAttrsToList (preset: rows: lib.concatMap (ofTable preset) rows) state
  );
  chosen = lib.genAttrs (map (row: row.directory) (
    lib.filter isChosen (lib.concatLists (lib.attrValues state))
  )) (_: true);
  found = lib.filter (it: !isIgnored it.path) (fromTables ++ passwords);

  # One finding for each path; none below another finding or, keys excepted, below a directory with chosen entries.
  byPath = lib.mapAttrs (_: lib.head) (lib.groupBy (it: it.path) found);
  findings = lib.filter (
    it:
    !(chosen ? ${it.path})
    && lib.all (above: !byPath ? ${above} && (it.class == "key" || !chosen ? ${above})) (
      paths.ancestors it.path
    )
  ) (lib.attrValues byPath);

  text = message findings;
  on = cfg.enable && cfg.audit.level != "off" && findings != [ ];

  # Parts of the toplevel that do not depend on its checks.
  parts = pkgs.linkFarm "imp-mount-audited" (
    {
      etc = "${config.system.build.etc}/etc";
      activate = pkgs.writeText "activate" config.system.activationScripts.script;
    }
    // lib.optionalAttrs (config.boot.initrd.enable && config.boot.initrd.secrets != { }) {
      append-initrd-secrets = "${config.system.build.initialRamdiskSecretAppender}/bin/append-initrd-secrets";
    }
  );
  # Omits paths that the evaluation already reports.
  letGo = map (it: it.path) (cfg.audit.ignore ++ findings);
  built =
    pkgs.runCommand "imp-mount-audit"
      {
        letGo = lib.concatMapStrings (path: path + "\n") letGo;
        passAsFile = [ "letGo" ];
        nativeBuildInputs = [ (import ../tool.nix { inherit pkgs cfg; }) ];
      }
      ''
        status=0
        impctl audit --root ${parts} --manifest ${cfg.compiled} --throw-away-from "$letGoPath" > found || status=$?
        if [ $status = 0 ]; then
          touch $out
        elif [ $status = 1 ]; then
          {
            echo "imp-mount: the next boot would lose more, by what is built. Keep it, or let it go by imp-mount.audit.ignore."
            cat found
          } > report
          ${if cfg.audit.level == "error" then "cat report >&2; exit 1" else "cp report $out"}
        else
          exit $status
        fi
      '';
in
{
  options.imp-mount.audit = {
    level = mkOption {
      type = types.enum [
        "warn"
        "error"
        "off"
      ];
      default = "warn";
      description = ''
        Action for state of this host that the next boot would lose: a warning, a failed build, or none.

        The evaluation warns of paths known from options: known services, files of keys and passwords, homes. The build runs
        `impctl audit` on the built units, of packages too, with their directories, commands and scripts, on tmpfiles rules
        and users; its findings are printed before a switch, or fail the build. Caches are disposable, and not reported.
      '';
    };

    ignore = mkOption {
      type = types.listOf (
        types.submodule {
          options = {
            path = mkOption {
              type = types.str;
              example = "/var/lib/private/*";
              description = ''
                The path and all paths below it. `*` matches any characters but a slash, `?` one, `[...]` one of a set.
              '';
            };
            reason = mkOption {
              type = types.str;
              example = "is downloaded again";
              description = "The reason, for readers of the configuration.";
            };
          };
        }
      );
      default = [ ];
      example = [
        {
          path = "/var/lib/fail2ban";
          reason = "bans may end with a reboot";
        }
      ];
      description = "Disposable paths with reasons; the audit does not name them.";
    };

    # For tests and inspection: the findings behind the message.
    findings = mkOption {
      type = types.listOf types.raw;
      readOnly = true;
      internal = true;
      default = findings;
      defaultText = "what the audit finds";
      description = "Paths that would be lost: a list of `{ path, class, why, fix }`.";
    };
  };

  config = {
    warnings = lib.mkIf (on && cfg.audit.level == "warn") [ text ];
    assertions = lib.mkIf (on && cfg.audit.level == "error") [
      {
        assertion = false;
        message = text;
      }
    ];
    system = lib.mkIf (cfg.enable && cfg.audit.level != "off") (
      if cfg.audit.level == "error" then
        { checks = [ built ]; }
      else
        { preSwitchChecks.imp-mount-audit = "cat ${built}"; }
    );
  };
}
