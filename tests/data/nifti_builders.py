import nibabel
import numpy as np


def ellipsoid(shape, centre, half_axes, spacing, axes=None):
    """Return an ellipsoid, bool; its centre is in voxels, its half axes in mm, along columns of axes."""
    points = np.stack(np.indices(shape), axis=-1) - np.array(centre)
    along = (points * spacing) @ (np.eye(3) if axes is None else axes)
    return (np.square(along / np.array(half_axes)).sum(axis=-1)) <= 1


def write_nifti(path, values, spacing=1.0, codes="RAS"):
    """Write values whose axes are canonical as a file whose axes point along the codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.diag([*np.broadcast_to(spacing, 3), 1.0]))
    to = nibabel.orientations
    turn = to.ornt_transform(to.axcodes2ornt("RAS"), to.axcodes2ornt(codes))
    nibabel.save(image.as_reoriented(turn), path)
    return path
