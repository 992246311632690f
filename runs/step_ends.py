"""When the steps of a run ended, for the scripts here that time them."""

import glob, struct


def ends(run):
    """From the events of TensorBoard's file, each of which has the time as a field 1 of 64 bits."""
    data, at, times = open(glob.glob(f"{run}/tensorboard/**/events.*", recursive=True)[0], "rb").read(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        times.append(struct.unpack_from("<d", data, at + 13)[0])
        at += 16 + length
    return times[1:]  # The first one opens the file.
