"""Readers of the files that people have: pictures, DICOM, NIfTI, NRRD, MetaImage, and tables."""
