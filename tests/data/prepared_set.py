"""A prepared TFDS set, written as array_record without TensorFlow."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

_FEATURES = "tensorflow_datasets.core.features."

Split = Sequence[tuple[bytes, int]]  # encoded images with their labels


def write_prepared(
    root: Path,
    name: str,
    splits: Mapping[str, Split],
    *,
    version: str = "1.0.0",
    shape: Sequence[int | None] = (9, 9, 1),
    dtype: str = "uint8",
    label_names: Sequence[str] = ("a", "b"),
    num_classes: int | None = None,
    shards: int = 1,
) -> Path:
    """The folder of set `name` (or NAME/CONFIG) under `root`, as TFDS lays it out."""
    folder = root / name / version
    folder.mkdir(parents=True)
    short, _, config = name.partition("/")
    described = []
    for split, examples in splits.items():
        parts = [examples[shard::shards] for shard in range(shards)]
        for shard, part in enumerate(parts):
            file = f"{short}-{split}.array_record-{shard:05}-of-{shards:05}"
            writer = ArrayRecordWriter(str(folder / file), "group_size:1")
            for image, label in part:
                writer.write(_example(image, label))
            writer.close()
        described.append(
            {
                "name": split,
                "shardLengths": [str(len(part)) for part in parts],
                "numBytes": str(sum(len(image) for image, _ in examples)),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    about = {"name": short, "version": version, "fileFormat": "array_record", "splits": described}
    about |= {"configName": config} if config else {}
    (folder / "dataset_info.json").write_text(json.dumps(about))
    classes = len(label_names) if num_classes is None else num_classes
    features = {
        "image": {
            "pythonClassName": _FEATURES + "image_feature.Image",
            "image": {
                "shape": {"dimensions": [str(-1 if n is None else n) for n in shape]},
                "dtype": dtype,
            },
        },
        "label": {
            "pythonClassName": _FEATURES + "class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(classes)} if classes else {},
        },
    }
    (folder / "features.json").write_text(
        json.dumps(
            {
                "pythonClassName": _FEATURES + "features_dict.FeaturesDict",
                "featuresDict": {"features": features},
            }
        )
    )
    if label_names:
        (folder / "label.labels.txt").write_text("".join(f"{name}\n" for name in label_names))
    return folder


def _example(image: bytes, label: int) -> bytes:
    features = {
        "image": tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[image])),
        "label": tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[label])),
    }
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=features))
    return example.SerializeToString()
