# Reads vendors/*/chip.yaml; prints one word a chip: chip:vendor folder:precisions:calibrated precisions.
# make needs these before any Python environment exists, so chip.yaml keeps each of these lists on one line.
# `lacks: [chip:precision, ...]` takes precisions from single chips of the family.
/^(chips|precisions|calibrated|lacks):/ {
    split(FILENAME, path, "/")
    key = $1
    sub(/^[a-z]+: */, "")
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
END {
    for (folder in folders) {
        count = split(list[folder, "chips:"], chips, ",")
        for (i = 1; i <= count; i++) {
            print chips[i] ":" folder ":" kept(folder, chips[i], "precisions:") ":" kept(folder, chips[i], "calibrated:")
        }
    }
}
