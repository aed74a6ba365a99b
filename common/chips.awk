# Reads vendors/*/chip.yaml; prints one word a chip, its parts separated by colons, "-" for an empty one:
# chip, vendor folder, precisions, calibrated precisions, engines, options, options that make another variant.
# make needs these before any Python environment exists, so chip.yaml keeps each of these lists on one line.
# `lacks: [chip:precision, ...]` takes precisions from single chips of the family.
/^(chips|precisions|calibrated|lacks|engines|options|variant_options):/ {
    split(FILENAME, path, "/")
    key = $1
    sub(/^[a-z_]+: */, "")
    sub(/ *#.*/, "")
    gsub(/[][ ]/, "")
    if (key == "lacks:") {
        count = split($0, pairs, ",")
        for (i = 1; i <= count; i++) lacking[path[2] ":" pairs[i]] = 1
    } else {
        list[path[2], key] = $0
    }
    folders[path[2]] = 1
}
# The precisions of a list that the chip has.
function kept(folder, chip, key,    count, i, names, result) {
    count = split(list[folder, key], names, ",")
    result = ""
    for (i = 1; i <= count; i++) {
        if (!((folder ":" chip ":" names[i]) in lacking)) result = result (result == "" ? "" : ",") names[i]
    }
    return result
}
function or_dash(text) { return text == "" ? "-" : text }
END {
    for (folder in folders) {
        count = split(list[folder, "chips:"], chips, ",")
        for (i = 1; i <= count; i++) {
            printf "%s:%s:%s:%s", chips[i], folder, or_dash(kept(folder, chips[i], "precisions:")), \
                or_dash(kept(folder, chips[i], "calibrated:"))
            printf ":%s:%s:%s\n", or_dash(list[folder, "engines:"]), or_dash(list[folder, "options:"]), \
                or_dash(list[folder, "variant_options:"])
        }
    }
}
