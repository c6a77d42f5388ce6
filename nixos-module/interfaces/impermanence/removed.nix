# Removed options by name: setting one fails an assertion, reading one is no error.
{ lib }:
{
  # The former place of the options, such as `environment.persistence."/persist"`.
  place,
  # By name: `text`, reason and remedy; `keeps`, values with an effect; `description`.
  removed,
}:
{
  options = lib.mapAttrs (
    _: it:
    lib.mkOption {
      type = lib.types.nullOr lib.types.unspecified;
      default = null;
      internal = !it ? description;
      description = it.description or "Removed.";
    }
  ) removed;

  # Arguments: the `config` and `options` around the removed options.
  assertions =
    config: options:
    lib.concatMap (
      name:
      let
        it = removed.${name};
      in
      lib.optional (config.${name} != null && !lib.elem config.${name} (it.keeps or [ ])) {
        assertion = false;
        message = ''
          The option definition `${place}.${name}'${
            lib.optionalString (config ? dirPath) " of ${config.dirPath}"
          } in ${
            lib.concatMapStringsSep " and " (file: "`${file}'") options.${name}.files
          } no longer has any effect; please remove it.
          ${it.text}'';
      }
    ) (lib.attrNames removed);
}
