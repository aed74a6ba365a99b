# Reads vendors/*/chip.yaml; prints one word a chip: chip:vendor folder:precisions:calibrated precisions.
# make needs these before any Python environment exists, so chip.yaml keeps each of these lists on one line.
/^(chips|precisions|calibrated):/ {
    split(FILENAME, path, "/")
    key = $1
    sub(/^[a-z]+: */, "")
    gsub(/[][ ]/, "")
    list[path[2], key] = $0
    folders[path[2]] = 1
}
END {
    for (folder in folders) {
        count = split(list[folder, "chips:"], chips, ",")
        for (i = 1; i <= count; i++) {
            print chips[i] ":" folder ":" list[folder, "precisions:"] ":" list[folder, "calibrated:"]
        }
    }
}
