//! The table of OpenFlow errors.
//!
//! One line an error: the name, and for each range of versions the namespace and the (type, code) that
//! stand for it. In OpenFlow 1.2 and later an extension error has no code. Where two errors share a
//! number in one version, the one that stands first is what that number decodes to.

use super::{NICIRA, ONF, OPENFLOW, errors};
use crate::Version::{Of10, Of11, Of12, Of13, Of14, Of15};

errors! {
    // OFPET_HELLO_FAILED
    OfphfcIncompatible "OFPHFC_INCOMPATIBLE" [OPENFLOW Of10..=Of15 (0, 0)];
    OfphfcEperm "OFPHFC_EPERM" [OPENFLOW Of10..=Of15 (0, 1)];

    // OFPET_BAD_REQUEST
    OfpbrcBadVersion "OFPBRC_BAD_VERSION" [OPENFLOW Of10..=Of15 (1, 0)];
    OfpbrcBadType "OFPBRC_BAD_TYPE" [OPENFLOW Of10..=Of15 (1, 1)];
    OfpbrcBadStat "OFPBRC_BAD_STAT" [OPENFLOW Of10..=Of15 (1, 2)];
    OfpbrcBadVendor "OFPBRC_BAD_VENDOR" [OPENFLOW Of10..=Of15 (1, 3)];
    OfpbrcBadSubtype "OFPBRC_BAD_SUBTYPE" [OPENFLOW Of10..=Of15 (1, 4)];
    OfpbrcEperm "OFPBRC_EPERM" [OPENFLOW Of10..=Of15 (1, 5)];
    OfpbrcBadLen "OFPBRC_BAD_LEN" [OPENFLOW Of10..=Of15 (1, 6)];
    OfpbrcBufferEmpty "OFPBRC_BUFFER_EMPTY" [OPENFLOW Of10..=Of15 (1, 7)];
    OfpbrcBufferUnknown "OFPBRC_BUFFER_UNKNOWN" [OPENFLOW Of10..=Of15 (1, 8)];
    OfpbrcBadTableId "OFPBRC_BAD_TABLE_ID" [NICIRA Of10..=Of10 (1, 512), OPENFLOW Of11..=Of15 (1, 9)];
    OfpbrcIsSecondary "OFPBRC_IS_SECONDARY" [OPENFLOW Of10..=Of11 (1, 5), OPENFLOW Of12..=Of15 (1, 10)];
    OfpbrcBadPort "OFPBRC_BAD_PORT" [NICIRA Of10..=Of11 (1, 514), OPENFLOW Of12..=Of15 (1, 11)];
    OfpbrcBadPacket "OFPBRC_BAD_PACKET" [OPENFLOW Of12..=Of15 (1, 12)];
    OfpbrcMultipartBufferOverflow "OFPBRC_MULTIPART_BUFFER_OVERFLOW" [OPENFLOW Of13..=Of15 (1, 13)];
    OfpbrcMultipartRequestTimeout "OFPBRC_MULTIPART_REQUEST_TIMEOUT" [ONF Of13..=Of13 (2640, 0), OPENFLOW Of14..=Of15 (1, 14)];
    OfpbrcMultipartReplyTimeout "OFPBRC_MULTIPART_REPLY_TIMEOUT" [ONF Of13..=Of13 (2641, 0), OPENFLOW Of14..=Of15 (1, 15)];
    OfpbrcMultipartBadSched "OFPBRC_MULTIPART_BAD_SCHED" [OPENFLOW Of15..=Of15 (1, 16)];
    OfpbrcPipelineFieldsOnly "OFPBRC_PIPELINE_FIELDS_ONLY" [OPENFLOW Of15..=Of15 (1, 17)];
    OfpbrcUnknown "OFPBRC_UNKNOWN" [OPENFLOW Of15..=Of15 (1, 18)];
    NxbrcNxmInvalid "NXBRC_NXM_INVALID" [NICIRA Of10..=Of11 (1, 256), NICIRA Of12..=Of15 (2, 0)];
    NxbrcNxmBadType "NXBRC_NXM_BAD_TYPE" [NICIRA Of10..=Of11 (1, 257), NICIRA Of12..=Of15 (3, 0)];
    NxbrcMustBeZero "NXBRC_MUST_BE_ZERO" [NICIRA Of10..=Of11 (1, 515), NICIRA Of12..=Of15 (4, 0)];
    NxbrcBadReason "NXBRC_BAD_REASON" [NICIRA Of10..=Of11 (1, 516), NICIRA Of12..=Of15 (5, 0)];
    NxbrcFmBadEvent "NXBRC_FM_BAD_EVENT" [NICIRA Of10..=Of11 (1, 520), NICIRA Of12..=Of15 (9, 0)];
    NxbrcUnencodableError "NXBRC_UNENCODABLE_ERROR" [NICIRA Of10..=Of11 (1, 521), NICIRA Of12..=Of15 (10, 0)];

    // OFPET_BAD_ACTION
    OfpbacBadType "OFPBAC_BAD_TYPE" [OPENFLOW Of10..=Of15 (2, 0)];
    OfpbacBadLen "OFPBAC_BAD_LEN" [OPENFLOW Of10..=Of15 (2, 1)];
    OfpbacBadVendor "OFPBAC_BAD_VENDOR" [OPENFLOW Of10..=Of15 (2, 2)];
    OfpbacBadVendorType "OFPBAC_BAD_VENDOR_TYPE" [OPENFLOW Of10..=Of15 (2, 3)];
    OfpbacBadOutPort "OFPBAC_BAD_OUT_PORT" [OPENFLOW Of10..=Of15 (2, 4)];
    OfpbacBadArgument "OFPBAC_BAD_ARGUMENT" [OPENFLOW Of10..=Of15 (2, 5)];
    OfpbacEperm "OFPBAC_EPERM" [OPENFLOW Of10..=Of15 (2, 6)];
    OfpbacTooMany "OFPBAC_TOO_MANY" [OPENFLOW Of10..=Of15 (2, 7)];
    OfpbacBadQueue "OFPBAC_BAD_QUEUE" [OPENFLOW Of10..=Of15 (2, 8)];
    OfpbacBadOutGroup "OFPBAC_BAD_OUT_GROUP" [NICIRA Of10..=Of10 (2, 9), OPENFLOW Of11..=Of15 (2, 9)];
    OfpbacMatchInconsistent "OFPBAC_MATCH_INCONSISTENT" [NICIRA Of10..=Of10 (1, 522), OPENFLOW Of11..=Of15 (2, 10)];
    OfpbacUnsupportedOrder "OFPBAC_UNSUPPORTED_ORDER" [OPENFLOW Of11..=Of15 (2, 11)];
    OfpbacBadTag "OFPBAC_BAD_TAG" [OPENFLOW Of11..=Of15 (2, 12)];
    OfpbacBadSetType "OFPBAC_BAD_SET_TYPE" [NICIRA Of10..=Of11 (1, 523), OPENFLOW Of12..=Of15 (2, 13)];
    OfpbacBadSetLen "OFPBAC_BAD_SET_LEN" [NICIRA Of10..=Of11 (1, 524), OPENFLOW Of12..=Of15 (2, 14)];
    OfpbacBadSetArgument "OFPBAC_BAD_SET_ARGUMENT" [NICIRA Of10..=Of11 (1, 525), OPENFLOW Of12..=Of15 (2, 15)];
    OfpbacBadSetMask "OFPBAC_BAD_SET_MASK" [ONF Of13..=Of14 (4250, 0), OPENFLOW Of15..=Of15 (2, 16)];
    OfpbacBadMeter "OFPBAC_BAD_METER" [OPENFLOW Of15..=Of15 (2, 17)];
    NxbacMustBeZero "NXBAC_MUST_BE_ZERO" [NICIRA Of10..=Of11 (2, 256), NICIRA Of12..=Of15 (11, 0)];
    NxbacBadConjunction "NXBAC_BAD_CONJUNCTION" [NICIRA Of10..=Of11 (2, 526), NICIRA Of12..=Of15 (15, 0)];
    NxbacBadHeaderType "NXBAC_BAD_HEADER_TYPE" [NICIRA Of13..=Of15 (39, 0)];
    NxbacUnknownEdProp "NXBAC_UNKNOWN_ED_PROP" [NICIRA Of13..=Of15 (40, 0)];
    NxbacBadEdProp "NXBAC_BAD_ED_PROP" [NICIRA Of13..=Of15 (41, 0)];
    NxbacCtDatapathSupport "NXBAC_CT_DATAPATH_SUPPORT" [NICIRA Of10..=Of11 (1, 265), NICIRA Of12..=Of15 (42, 0)];

    // OFPET_BAD_INSTRUCTION
    OfpbicUnknownInst "OFPBIC_UNKNOWN_INST" [OPENFLOW Of11..=Of15 (3, 0)];
    OfpbicUnsupInst "OFPBIC_UNSUP_INST" [NICIRA Of10..=Of10 (2, 257), OPENFLOW Of11..=Of15 (3, 1)];
    OfpbicBadTableId "OFPBIC_BAD_TABLE_ID" [OPENFLOW Of11..=Of15 (3, 2)];
    OfpbicUnsupMetadata "OFPBIC_UNSUP_METADATA" [OPENFLOW Of11..=Of15 (3, 3)];
    OfpbicUnsupMetadataMask "OFPBIC_UNSUP_METADATA_MASK" [OPENFLOW Of11..=Of15 (3, 4)];
    OfpbicBadExperimenter "OFPBIC_BAD_EXPERIMENTER" [OPENFLOW Of11..=Of15 (3, 5)];
    OfpbicBadExpType "OFPBIC_BAD_EXP_TYPE" [OPENFLOW Of11..=Of11 (3, 5), OPENFLOW Of12..=Of15 (3, 6)];
    OfpbicBadLen "OFPBIC_BAD_LEN" [OPENFLOW Of12..=Of15 (3, 7)];
    OfpbicEperm "OFPBIC_EPERM" [OPENFLOW Of12..=Of15 (3, 8)];
    OfpbicDupInst "OFPBIC_DUP_INST" [NICIRA Of11..=Of11 (3, 256), ONF Of12..=Of13 (2600, 0), OPENFLOW Of14..=Of15 (3, 9)];

    // OFPET_BAD_MATCH
    OfpbmcBadType "OFPBMC_BAD_TYPE" [OPENFLOW Of11..=Of15 (4, 0)];
    OfpbmcBadLen "OFPBMC_BAD_LEN" [OPENFLOW Of11..=Of15 (4, 1)];
    OfpbmcBadTag "OFPBMC_BAD_TAG" [OPENFLOW Of11..=Of15 (4, 2)];
    OfpbmcBadDlAddrMask "OFPBMC_BAD_DL_ADDR_MASK" [OPENFLOW Of11..=Of15 (4, 3)];
    OfpbmcBadNwAddrMask "OFPBMC_BAD_NW_ADDR_MASK" [OPENFLOW Of11..=Of15 (4, 4)];
    OfpbmcBadWildcards "OFPBMC_BAD_WILDCARDS" [NICIRA Of10..=Of10 (1, 262), OPENFLOW Of11..=Of15 (4, 5)];
    OfpbmcBadField "OFPBMC_BAD_FIELD" [NICIRA Of10..=Of10 (0, 263), OPENFLOW Of11..=Of15 (4, 6)];
    OfpbmcBadValue "OFPBMC_BAD_VALUE" [NICIRA Of10..=Of10 (1, 258), OPENFLOW Of11..=Of15 (4, 7)];
    OfpbmcBadMask "OFPBMC_BAD_MASK" [NICIRA Of10..=Of11 (1, 259), OPENFLOW Of12..=Of15 (4, 8)];
    OfpbmcBadPrereq "OFPBMC_BAD_PREREQ" [NICIRA Of10..=Of11 (1, 260), OPENFLOW Of12..=Of15 (4, 9)];
    OfpbmcDupField "OFPBMC_DUP_FIELD" [NICIRA Of10..=Of11 (1, 261), OPENFLOW Of12..=Of15 (4, 10)];
    OfpbmcEperm "OFPBMC_EPERM" [OPENFLOW Of12..=Of15 (4, 11)];
    NxbmcCtDatapathSupport "NXBMC_CT_DATAPATH_SUPPORT" [NICIRA Of10..=Of11 (1, 264), NICIRA Of12..=Of15 (43, 0)];

    // OFPET_FLOW_MOD_FAILED
    OfpfmfcUnknown "OFPFMFC_UNKNOWN" [OPENFLOW Of11..=Of15 (5, 0)];
    OfpfmfcTableFull "OFPFMFC_TABLE_FULL" [OPENFLOW Of10..=Of10 (3, 0), OPENFLOW Of11..=Of15 (5, 1)];
    OfpfmfcBadTableId "OFPFMFC_BAD_TABLE_ID" [OPENFLOW Of11..=Of15 (5, 2)];
    OfpfmfcOverlap "OFPFMFC_OVERLAP" [OPENFLOW Of10..=Of10 (3, 1), OPENFLOW Of11..=Of15 (5, 3)];
    OfpfmfcEperm "OFPFMFC_EPERM" [OPENFLOW Of10..=Of10 (3, 2), OPENFLOW Of11..=Of15 (5, 4)];
    OfpfmfcBadTimeout "OFPFMFC_BAD_TIMEOUT" [OPENFLOW Of11..=Of15 (5, 5)];
    OfpfmfcBadEmergTimeout "OFPFMFC_BAD_EMERG_TIMEOUT" [OPENFLOW Of10..=Of10 (3, 3)];
    OfpfmfcBadCommand "OFPFMFC_BAD_COMMAND" [OPENFLOW Of10..=Of10 (3, 4), OPENFLOW Of11..=Of15 (5, 6)];
    OfpfmfcBadFlags "OFPFMFC_BAD_FLAGS" [NICIRA Of10..=Of10 (3, 258), NICIRA Of11..=Of11 (5, 258), OPENFLOW Of12..=Of15 (5, 7)];
    OfpfmfcCantSync "OFPFMFC_CANT_SYNC" [OPENFLOW Of14..=Of15 (5, 8)];
    OfpfmfcBadPriority "OFPFMFC_BAD_PRIORITY" [ONF Of13..=Of13 (2360, 0), OPENFLOW Of14..=Of15 (5, 9)];
    OfpfmfcIsSync "OFPFMFC_IS_SYNC" [OPENFLOW Of14..=Of15 (5, 10)];
    OfpfmfcUnsupported "OFPFMFC_UNSUPPORTED" [OPENFLOW Of10..=Of10 (3, 5)];
    NxfmfcHardware "NXFMFC_HARDWARE" [NICIRA Of10..=Of11 (5, 256), NICIRA Of12..=Of15 (12, 0)];
    NxfmfcBadTableId "NXFMFC_BAD_TABLE_ID" [NICIRA Of10..=Of11 (5, 257), NICIRA Of12..=Of15 (13, 0)];
    NxfmfcInvalidTlvField "NXFMFC_INVALID_TLV_FIELD" [NICIRA Of10..=Of11 (1, 536), NICIRA Of12..=Of15 (37, 0)];

    // OFPET_GROUP_MOD_FAILED
    OfpgmfcGroupExists "OFPGMFC_GROUP_EXISTS" [NICIRA Of10..=Of10 (6, 0), OPENFLOW Of11..=Of15 (6, 0)];
    OfpgmfcInvalidGroup "OFPGMFC_INVALID_GROUP" [NICIRA Of10..=Of10 (6, 1), OPENFLOW Of11..=Of15 (6, 1)];
    OfpgmfcWeightUnsupported "OFPGMFC_WEIGHT_UNSUPPORTED" [NICIRA Of10..=Of10 (6, 2), OPENFLOW Of11..=Of15 (6, 2)];
    OfpgmfcOutOfGroups "OFPGMFC_OUT_OF_GROUPS" [NICIRA Of10..=Of10 (6, 3), OPENFLOW Of11..=Of15 (6, 3)];
    OfpgmfcOutOfBuckets "OFPGMFC_OUT_OF_BUCKETS" [NICIRA Of10..=Of10 (6, 4), OPENFLOW Of11..=Of15 (6, 4)];
    OfpgmfcChainingUnsupported "OFPGMFC_CHAINING_UNSUPPORTED" [NICIRA Of10..=Of10 (6, 5), OPENFLOW Of11..=Of15 (6, 5)];
    OfpgmfcWatchUnsupported "OFPGMFC_WATCH_UNSUPPORTED" [NICIRA Of10..=Of10 (6, 6), OPENFLOW Of11..=Of15 (6, 6)];
    OfpgmfcLoop "OFPGMFC_LOOP" [NICIRA Of10..=Of10 (6, 7), OPENFLOW Of11..=Of15 (6, 7)];
    OfpgmfcUnknownGroup "OFPGMFC_UNKNOWN_GROUP" [NICIRA Of10..=Of10 (6, 8), OPENFLOW Of11..=Of15 (6, 8)];
    OfpgmfcChainedGroup "OFPGMFC_CHAINED_GROUP" [NICIRA Of10..=Of10 (6, 9), OPENFLOW Of12..=Of15 (6, 9)];
    OfpgmfcBadType "OFPGMFC_BAD_TYPE" [NICIRA Of10..=Of10 (6, 10), OPENFLOW Of12..=Of15 (6, 10)];
    OfpgmfcBadCommand "OFPGMFC_BAD_COMMAND" [NICIRA Of10..=Of10 (6, 11), OPENFLOW Of12..=Of15 (6, 11)];
    OfpgmfcBadBucket "OFPGMFC_BAD_BUCKET" [NICIRA Of10..=Of10 (6, 12), OPENFLOW Of12..=Of15 (6, 12)];
    OfpgmfcBadWatch "OFPGMFC_BAD_WATCH" [NICIRA Of10..=Of10 (6, 13), OPENFLOW Of12..=Of15 (6, 13)];
    OfpgmfcEperm "OFPGMFC_EPERM" [NICIRA Of10..=Of10 (6, 14), OPENFLOW Of12..=Of15 (6, 14)];
    OfpgmfcUnknownBucket "OFPGMFC_UNKNOWN_BUCKET" [NICIRA Of10..=Of10 (6, 15), OPENFLOW Of15..=Of15 (6, 15)];
    OfpgmfcBucketExists "OFPGMFC_BUCKET_EXISTS" [NICIRA Of10..=Of10 (6, 16), OPENFLOW Of15..=Of15 (6, 16)];

    // OFPET_PORT_MOD_FAILED
    OfppmfcBadPort "OFPPMFC_BAD_PORT" [OPENFLOW Of10..=Of10 (4, 0), OPENFLOW Of11..=Of15 (7, 0)];
    OfppmfcBadHwAddr "OFPPMFC_BAD_HW_ADDR" [OPENFLOW Of10..=Of10 (4, 1), OPENFLOW Of11..=Of15 (7, 1)];
    OfppmfcBadConfig "OFPPMFC_BAD_CONFIG" [OPENFLOW Of11..=Of15 (7, 2)];
    OfppmfcBadAdvertise "OFPPMFC_BAD_ADVERTISE" [OPENFLOW Of11..=Of15 (7, 3)];
    OfppmfcEperm "OFPPMFC_EPERM" [OPENFLOW Of12..=Of15 (7, 4)];

    // OFPET_TABLE_MOD_FAILED
    OfptmfcBadTable "OFPTMFC_BAD_TABLE" [OPENFLOW Of11..=Of15 (8, 0)];
    OfptmfcBadConfig "OFPTMFC_BAD_CONFIG" [OPENFLOW Of11..=Of15 (8, 1)];
    OfptmfcEperm "OFPTMFC_EPERM" [OPENFLOW Of12..=Of15 (8, 2)];

    // OFPET_QUEUE_OP_FAILED
    OfpqofcBadPort "OFPQOFC_BAD_PORT" [OPENFLOW Of10..=Of10 (5, 0), OPENFLOW Of11..=Of15 (9, 0)];
    OfpqofcBadQueue "OFPQOFC_BAD_QUEUE" [OPENFLOW Of10..=Of10 (5, 1), OPENFLOW Of11..=Of15 (9, 1)];
    OfpqofcEperm "OFPQOFC_EPERM" [OPENFLOW Of10..=Of10 (5, 2), OPENFLOW Of11..=Of15 (9, 2)];
    NxqofcQueueError "NXQOFC_QUEUE_ERROR" [NICIRA Of14..=Of15 (23, 0)];

    // OFPET_SWITCH_CONFIG_FAILED
    OfpscfcBadFlags "OFPSCFC_BAD_FLAGS" [OPENFLOW Of11..=Of15 (10, 0)];
    OfpscfcBadLen "OFPSCFC_BAD_LEN" [OPENFLOW Of11..=Of15 (10, 1)];
    OfpscfcEperm "OFPSCFC_EPERM" [OPENFLOW Of12..=Of15 (10, 2)];

    // OFPET_ROLE_REQUEST_FAILED
    OfprrfcStale "OFPRRFC_STALE" [OPENFLOW Of12..=Of15 (11, 0)];
    OfprrfcUnsup "OFPRRFC_UNSUP" [OPENFLOW Of12..=Of15 (11, 1)];
    OfprrfcBadRole "OFPRRFC_BAD_ROLE" [NICIRA Of10..=Of11 (1, 513), OPENFLOW Of12..=Of15 (11, 2)];
    OfprrfcIdUnsup "OFPRRFC_ID_UNSUP" [OPENFLOW Of15..=Of15 (11, 3)];
    OfprrfcIdInUse "OFPRRFC_ID_IN_USE" [OPENFLOW Of15..=Of15 (11, 4)];

    // OFPET_METER_MOD_FAILED
    OfpmmfcUnknown "OFPMMFC_UNKNOWN" [OPENFLOW Of13..=Of15 (12, 0)];
    OfpmmfcMeterExists "OFPMMFC_METER_EXISTS" [OPENFLOW Of13..=Of15 (12, 1)];
    OfpmmfcInvalidMeter "OFPMMFC_INVALID_METER" [OPENFLOW Of13..=Of15 (12, 2)];
    OfpmmfcUnknownMeter "OFPMMFC_UNKNOWN_METER" [OPENFLOW Of13..=Of15 (12, 3)];
    OfpmmfcBadCommand "OFPMMFC_BAD_COMMAND" [OPENFLOW Of13..=Of15 (12, 4)];
    OfpmmfcBadFlags "OFPMMFC_BAD_FLAGS" [OPENFLOW Of13..=Of15 (12, 5)];
    OfpmmfcBadRate "OFPMMFC_BAD_RATE" [OPENFLOW Of13..=Of15 (12, 6)];
    OfpmmfcBadBurst "OFPMMFC_BAD_BURST" [OPENFLOW Of13..=Of15 (12, 7)];
    OfpmmfcBadBand "OFPMMFC_BAD_BAND" [OPENFLOW Of13..=Of15 (12, 8)];
    OfpmmfcBadBandValue "OFPMMFC_BAD_BAND_VALUE" [OPENFLOW Of13..=Of15 (12, 9)];
    OfpmmfcOutOfMeters "OFPMMFC_OUT_OF_METERS" [OPENFLOW Of13..=Of15 (12, 10)];
    OfpmmfcOutOfBands "OFPMMFC_OUT_OF_BANDS" [OPENFLOW Of13..=Of15 (12, 11)];

    // OFPET_TABLE_FEATURES_FAILED
    OfptffcBadTable "OFPTFFC_BAD_TABLE" [OPENFLOW Of13..=Of15 (13, 0)];
    OfptffcBadMetadata "OFPTFFC_BAD_METADATA" [OPENFLOW Of13..=Of15 (13, 1)];
    OfptffcEperm "OFPTFFC_EPERM" [OPENFLOW Of13..=Of15 (13, 5)];
    OfptffcBadCapa "OFPTFFC_BAD_CAPA" [OPENFLOW Of15..=Of15 (13, 6)];
    OfptffcBadMaxEnt "OFPTFFC_BAD_MAX_ENT" [OPENFLOW Of15..=Of15 (13, 7)];
    OfptffcBadFeatures "OFPTFFC_BAD_FEATURES" [OPENFLOW Of15..=Of15 (13, 8)];
    OfptffcBadCommand "OFPTFFC_BAD_COMMAND" [OPENFLOW Of15..=Of15 (13, 9)];
    OfptffcTooMany "OFPTFFC_TOO_MANY" [OPENFLOW Of15..=Of15 (13, 10)];
    NxtffcDupTable "NXTFFC_DUP_TABLE" [NICIRA Of13..=Of15 (44, 0)];

    // OFPET_BAD_PROPERTY
    OfpbpcBadType "OFPBPC_BAD_TYPE" [NICIRA Of10..=Of11 (13, 2), NICIRA Of12..=Of12 (25, 0), OPENFLOW Of13..=Of13 (13, 2), OPENFLOW Of14..=Of15 (14, 0)];
    OfpbpcBadLen "OFPBPC_BAD_LEN" [NICIRA Of10..=Of11 (13, 3), NICIRA Of12..=Of12 (26, 0), OPENFLOW Of13..=Of13 (13, 3), OPENFLOW Of14..=Of15 (14, 1)];
    OfpbpcBadValue "OFPBPC_BAD_VALUE" [NICIRA Of10..=Of11 (13, 4), NICIRA Of12..=Of12 (27, 0), OPENFLOW Of13..=Of13 (13, 4), OPENFLOW Of14..=Of15 (14, 2)];
    OfpbpcTooMany "OFPBPC_TOO_MANY" [NICIRA Of10..=Of11 (14, 3), NICIRA Of12..=Of12 (28, 0), ONF Of13..=Of13 (4443, 0), OPENFLOW Of14..=Of15 (14, 3)];
    OfpbpcDupType "OFPBPC_DUP_TYPE" [NICIRA Of10..=Of11 (14, 4), NICIRA Of12..=Of12 (29, 0), ONF Of13..=Of13 (4444, 0), OPENFLOW Of14..=Of15 (14, 4)];
    OfpbpcBadExperimenter "OFPBPC_BAD_EXPERIMENTER" [NICIRA Of10..=Of11 (14, 5), NICIRA Of12..=Of12 (30, 0), ONF Of13..=Of13 (4445, 0), OPENFLOW Of14..=Of15 (14, 5)];
    OfpbpcBadExpType "OFPBPC_BAD_EXP_TYPE" [NICIRA Of10..=Of11 (14, 6), NICIRA Of12..=Of12 (31, 0), ONF Of13..=Of13 (4446, 0), OPENFLOW Of14..=Of15 (14, 6)];
    OfpbpcBadExpValue "OFPBPC_BAD_EXP_VALUE" [NICIRA Of10..=Of11 (14, 7), NICIRA Of12..=Of12 (32, 0), ONF Of13..=Of13 (4447, 0), OPENFLOW Of14..=Of15 (14, 7)];
    OfpbpcEperm "OFPBPC_EPERM" [NICIRA Of10..=Of11 (14, 8), NICIRA Of12..=Of12 (33, 0), ONF Of13..=Of13 (4448, 0), OPENFLOW Of14..=Of15 (14, 8)];

    // OFPET_ASYNC_CONFIG_FAILED
    OfpacfcInvalid "OFPACFC_INVALID" [ONF Of13..=Of13 (2370, 0), OPENFLOW Of14..=Of15 (15, 0)];
    OfpacfcUnsupported "OFPACFC_UNSUPPORTED" [ONF Of13..=Of13 (2371, 0), OPENFLOW Of14..=Of15 (15, 1)];
    OfpacfcEperm "OFPACFC_EPERM" [ONF Of13..=Of13 (2372, 0), OPENFLOW Of14..=Of15 (15, 2)];

    // OFPET_BUNDLE_FAILED
    OfpbfcUnknown "OFPBFC_UNKNOWN" [ONF Of13..=Of13 (2300, 0), OPENFLOW Of14..=Of15 (17, 0)];
    OfpbfcEperm "OFPBFC_EPERM" [ONF Of13..=Of13 (2301, 0), OPENFLOW Of14..=Of15 (17, 1)];
    OfpbfcBadId "OFPBFC_BAD_ID" [ONF Of13..=Of13 (2302, 0), OPENFLOW Of14..=Of15 (17, 2)];
    OfpbfcBundleExist "OFPBFC_BUNDLE_EXIST" [ONF Of13..=Of13 (2303, 0), OPENFLOW Of14..=Of15 (17, 3)];
    OfpbfcBundleClosed "OFPBFC_BUNDLE_CLOSED" [ONF Of13..=Of13 (2304, 0), OPENFLOW Of14..=Of15 (17, 4)];
    OfpbfcOutOfBundles "OFPBFC_OUT_OF_BUNDLES" [ONF Of13..=Of13 (2305, 0), OPENFLOW Of14..=Of15 (17, 5)];
    OfpbfcBadType "OFPBFC_BAD_TYPE" [ONF Of13..=Of13 (2306, 0), OPENFLOW Of14..=Of15 (17, 6)];
    OfpbfcBadFlags "OFPBFC_BAD_FLAGS" [ONF Of13..=Of13 (2307, 0), OPENFLOW Of14..=Of15 (17, 7)];
    OfpbfcMsgBadLen "OFPBFC_MSG_BAD_LEN" [ONF Of13..=Of13 (2308, 0), OPENFLOW Of14..=Of15 (17, 8)];
    OfpbfcMsgBadXid "OFPBFC_MSG_BAD_XID" [ONF Of13..=Of13 (2309, 0), OPENFLOW Of14..=Of15 (17, 9)];
    OfpbfcMsgUnsup "OFPBFC_MSG_UNSUP" [ONF Of13..=Of13 (2310, 0), OPENFLOW Of14..=Of15 (17, 10)];
    OfpbfcMsgConflict "OFPBFC_MSG_CONFLICT" [ONF Of13..=Of13 (2311, 0), OPENFLOW Of14..=Of15 (17, 11)];
    OfpbfcMsgTooMany "OFPBFC_MSG_TOO_MANY" [ONF Of13..=Of13 (2312, 0), OPENFLOW Of14..=Of15 (17, 12)];
    OfpbfcMsgFailed "OFPBFC_MSG_FAILED" [ONF Of13..=Of13 (2313, 0), OPENFLOW Of14..=Of15 (17, 13)];
    OfpbfcTimeout "OFPBFC_TIMEOUT" [ONF Of13..=Of13 (2314, 0), OPENFLOW Of14..=Of15 (17, 14)];
    OfpbfcBundleInProgress "OFPBFC_BUNDLE_IN_PROGRESS" [ONF Of13..=Of13 (2315, 0), OPENFLOW Of14..=Of15 (17, 15)];
    OfpbfcSchedNotSupported "OFPBFC_SCHED_NOT_SUPPORTED" [OPENFLOW Of15..=Of15 (17, 16)];
    OfpbfcSchedFuture "OFPBFC_SCHED_FUTURE" [OPENFLOW Of15..=Of15 (17, 17)];
    OfpbfcSchedPast "OFPBFC_SCHED_PAST" [OPENFLOW Of15..=Of15 (17, 18)];
    OfpbfcBadVersion "OFPBFC_BAD_VERSION" [NICIRA Of14..=Of15 (22, 0)];

    // OFPET_FLOW_MONITOR_FAILED
    OfpmofcUnknown "OFPMOFC_UNKNOWN" [OPENFLOW Of14..=Of15 (16, 0)];
    OfpmofcMonitorExists "OFPMOFC_MONITOR_EXISTS" [NICIRA Of10..=Of11 (1, 517), NICIRA Of12..=Of13 (6, 0), OPENFLOW Of14..=Of15 (16, 1)];
    OfpmofcInvalidMonitor "OFPMOFC_INVALID_MONITOR" [OPENFLOW Of14..=Of15 (16, 2)];
    OfpmofcUnknownMonitor "OFPMOFC_UNKNOWN_MONITOR" [NICIRA Of10..=Of11 (1, 519), NICIRA Of12..=Of13 (8, 0), OPENFLOW Of14..=Of15 (16, 3)];
    OfpmofcBadCommand "OFPMOFC_BAD_COMMAND" [OPENFLOW Of14..=Of15 (16, 4)];
    OfpmofcBadFlags "OFPMOFC_BAD_FLAGS" [NICIRA Of10..=Of11 (1, 518), NICIRA Of12..=Of13 (7, 0), OPENFLOW Of14..=Of15 (16, 5)];
    OfpmofcBadTableId "OFPMOFC_BAD_TABLE_ID" [OPENFLOW Of14..=Of15 (16, 6)];
    OfpmofcBadOut "OFPMOFC_BAD_OUT" [OPENFLOW Of14..=Of15 (16, 7)];

    // OFPET_TLV_TABLE_MOD_FAILED
    NxttmfcBadCommand "NXTTMFC_BAD_COMMAND" [NICIRA Of10..=Of11 (1, 527), NICIRA Of12..=Of15 (16, 0)];
    NxttmfcBadOptLen "NXTTMFC_BAD_OPT_LEN" [NICIRA Of10..=Of11 (1, 528), NICIRA Of12..=Of15 (17, 0)];
    NxttmfcBadFieldIdx "NXTTMFC_BAD_FIELD_IDX" [NICIRA Of10..=Of11 (1, 529), NICIRA Of12..=Of15 (18, 0)];
    NxttmfcTableFull "NXTTMFC_TABLE_FULL" [NICIRA Of10..=Of11 (1, 530), NICIRA Of12..=Of15 (19, 0)];
    NxttmfcAlreadyMapped "NXTTMFC_ALREADY_MAPPED" [NICIRA Of10..=Of11 (1, 531), NICIRA Of12..=Of15 (20, 0)];
    NxttmfcDupEntry "NXTTMFC_DUP_ENTRY" [NICIRA Of10..=Of11 (1, 532), NICIRA Of12..=Of15 (21, 0)];
    NxttmfcInvalidTlvDel "NXTTMFC_INVALID_TLV_DEL" [NICIRA Of10..=Of11 (1, 537), NICIRA Of12..=Of15 (38, 0)];

    // NXT_RESUME
    NxrNotSupported "NXR_NOT_SUPPORTED" [NICIRA Of10..=Of11 (1, 533), NICIRA Of12..=Of15 (34, 0)];
    NxrStale "NXR_STALE" [NICIRA Of10..=Of11 (1, 534), NICIRA Of12..=Of15 (35, 0)];

    // NXT_STATS
    NxstNotConfigured "NXST_NOT_CONFIGURED" [NICIRA Of10..=Of11 (1, 535), NICIRA Of12..=Of15 (36, 0)];
}
