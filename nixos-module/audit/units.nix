# State that units, tmpfiles rules and homes of system users name, without a table.
#
# A row is { directory | file, user, group, mode, why }, as in ../state. Caches (CacheDirectory=, /var/cache) are throw-away by what they
# are, and left out. So are template units whose directory depends on the instance.
{ config, lib }:
let
  paths = import ../paths.nix;
  known = import ../known.nix;
  isTrue =
    value:
    lib.elem value [
      true
      1
      "1"
      "yes"
      "y"
      "true"
      "t"
      "on"
    ];
  words =
    value: lib.filter (word: word != "") (lib.concatMap (it: lib.splitString " " (toString it)) (lib.toList value));

  # Directories that hold nothing of their own, and what is made anew at every boot. Of root's home what units name is state.
  throwAway =
    lib.filter (lib.hasPrefix "/") (lib.attrNames known.disposable)
    ++ lib.attrNames known.system
    ++ [
      "/home"
      "/nix"
    ];
  tooWide = lib.attrNames known.shared ++ [
    "/root"
    "/var/log"
  ];
  isBelow = above: path: lib.any (above: paths.isIn above path) above;
  isState =
    row:
    !lib.elem row.directory tooWide && !isBelow ([ "/etc" ] ++ throwAway) row.directory;
  # The configuration's own files are looked at by name alone: to make one may take as long as a system.
  isSecret =
    row:
    !isBelow throwAway row.file && !config.environment.etc ? ${lib.removePrefix "/etc/" row.file};

  # One service: its own directories (`own`), or what it is let write to, needs mounted, or works in.
  ofService =
    own: name: service:
    let
      set = service.serviceConfig;
      instance = builtins.match "[^@]+@(.+)" name;
      specifiers = {
        "%n" = "${name}.service";
        "%N" = name;
        "%p" = lib.head (lib.splitString "@" name);
        "%S" = "/var/lib";
      }
      // lib.optionalAttrs (instance != null) { "%i" = lib.head instance; };
      resolve = lib.replaceStrings (lib.attrNames specifiers) (lib.attrValues specifiers);
      # null is as good as nothing, and numbers are as good as text.
      said = key: default: if set.${key} or null == null then default else toString set.${key};
      user = said "User" "root";
      dynamic = isTrue (set.DynamicUser or false);
      private = lib.optionalString dynamic "/private";
      secrets =
        let
          ofCredential = word: lib.last (lib.splitString ":" word);
          files =
            map ofCredential (
              lib.concatMap (key: map toString (lib.toList (set.${key} or [ ]))) [
                "LoadCredential"
                "LoadCredentialEncrypted"
              ]
            )
            ++ map (lib.removePrefix "-") (words (set.EnvironmentFile or [ ]));
        in
        map (file: {
          file = paths.join [ (resolve file) ];
          mode = "0600";
          why = "read by ${name}.service";
          class = "key";
        }) (lib.filter (file: lib.hasPrefix "/" file && builtins.match ".*[*?[].*" file == null) files);
      row = directory: {
        directory = behind (paths.join [ directory ]);
        # A dynamic user is given the directory whenever the service starts, in a parent that is root's alone.
        user = if dynamic then "root" else user;
        group = if dynamic then "root" else said "Group" (groupOf user);
        mode = said "StateDirectoryMode" "0755";
        why = "${name}.service";
      };
      # "name:link:ro": what stands before the colon is the directory, the rest links to it.
      names = key: map (word: lib.head (lib.splitString ":" word)) (words (set.${key} or [ ]));
      below = base: key: map (name: "${base}/${name}") (names key);
      # /var/lib/NAME of a dynamic user is a link to its directory.
      behind =
        path:
        if dynamic && lib.any (name: paths.isIn "/var/lib/${name}" path) (names "StateDirectory") then
          "/var/lib/private/${lib.removePrefix "/var/lib/" path}"
        else
          path;
      # A unit that starts in a directory, or is told of one, works there.
      homes =
        [ (lib.removePrefix "-" (said "WorkingDirectory" "")) ]
        ++ lib.attrValues (
          lib.filterAttrs (
            name: value: (name == "HOME" || lib.hasSuffix "DIR" name) && value != null && lib.hasPrefix "/var/lib/" (toString value)
          ) service.environment
        );
      # "-" and "+" before a path say what to do where it is missing, and which root it is in.
      writable = map (word: lib.head (builtins.match "[-+]*(.*)" word)) (words (set.ReadWritePaths or [ ]));
    in
    lib.filter (it: !lib.hasInfix "%" (it.directory or it.file)) (
      lib.optionals (!own) secrets
      ++ map (directory: row (resolve directory)) (
        if own then
          below "/var/lib${private}" "StateDirectory" ++ below "/var/log${private}" "LogsDirectory"
        else
          lib.filter (path: lib.hasPrefix "/" path || lib.hasPrefix "%S/" path) (
            writable ++ words (service.unitConfig.RequiresMountsFor or [ ]) ++ homes
          )
      )
    );

  # By the name that one logs in with, which need not be the name of the option.
  logins = lib.mapAttrs' (_: user: lib.nameValuePair user.name user.group) config.users.users;
  groupOf = user: logins.${user} or "root";
  orRoot = name: if name == "-" || name == "" then "root" else unquoted name;
  # ":" and "~" before a mode, ":" before an owner: only for what is created, and masked.
  plain = text: if text == "-" || text == "" then "0755" else lib.head (builtins.match "[:~]*(.*)" (unquoted text));

  unquoted = text: lib.replaceStrings [ "'" "\"" ] [ "" "" ] text;
  ofTmpfile =
    {
      type,
      path,
      mode,
      user,
      group,
    }:
    lib.optional
      (
        lib.elem (builtins.substring 0 1 type) [
          "d"
          "v"
          "q"
          "Q"
        ]
        && !lib.hasInfix "%" path
      )
      {
        directory = paths.join [ (unquoted path) ];
        user = orRoot (lib.removePrefix ":" (unquoted user));
        group = orRoot (lib.removePrefix ":" (unquoted group));
        mode = plain mode;
        why = "tmpfiles";
      };
  ofRule =
    rule:
    let
      fields = lib.filter (it: lib.isString it && it != "") (builtins.split "[ \t]+" rule);
      field = index: if lib.length fields > index then lib.elemAt fields index else "-";
    in
    ofTmpfile {
      type = field 0;
      path = field 1;
      mode = field 2;
      user = field 3;
      group = field 4;
    };
  ofSetting =
    path: type: it:
    ofTmpfile {
      inherit path type;
      inherit (it) mode user group;
    };

  ofUser = user: {
    directory = paths.join [ user.home ];
    user = user.name;
    inherit (user) group;
    mode = user.homeMode;
    why = "the home of ${user.name}";
  };

  tmpfiles = config.systemd.tmpfiles;
  services =
    own:
    lib.concatLists (
      lib.mapAttrsToList (ofService own) (
        lib.filterAttrs (_: service: service.enable) config.systemd.services
      )
    );
  # Those that say owner and mode come first.
  all =
    services true
    ++ map ofUser (
      lib.filter (user: user.createHome && !user.isNormalUser) (lib.attrValues config.users.users)
    )
    ++ lib.concatMap ofRule tmpfiles.rules
    ++ lib.concatMap (
      settings:
      lib.concatLists (
        lib.mapAttrsToList (
          path: types: lib.concatLists (lib.mapAttrsToList (ofSetting path) types)
        ) settings
      )
    ) (lib.attrValues tmpfiles.settings)
    ++ services false;

  # Several may speak of one directory: the first decides on the owner, and every unit is named.
  merge =
    rows:
    let
      units = lib.unique (lib.filter (lib.hasSuffix ".service") (map (row: row.why) rows));
    in
    lib.head rows // { why = if units == [ ] then (lib.head rows).why else lib.concatStringsSep ", " units; };
in
lib.mapAttrsToList (_: merge) (
  lib.groupBy (row: row.directory or row.file) (
    lib.filter (row: if row ? directory then isState row else isSecret row) all
  )
)
