# shellcheck shell=bash disable=SC2154
# Unpacks $crates into $out, as a directory of sources for cargo. stripHash is a function of nixpkgs' stdenv.
mkdir -p "$out/.cargo"
cp "$lock" "$out/Cargo.lock"
cat > "$out/.cargo/config.toml" << 'EOF'
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "@vendor@"
EOF
for crate in $crates; do
    tar -xf "$crate" -C "$out"
    name=$(stripHash "$crate")
    name=${name#crate-}
    sum=$(sha256sum < "$crate")
    printf '{"files":{},"package":"%s"}' "${sum%% *}" > "$out/${name%.tar.gz}/.cargo-checksum.json"
done
