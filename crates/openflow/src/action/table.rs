//! THE table of actions: one entry each, in Open vSwitch's order (ovs-actions(7)).

use super::define::Instruction as I;
use super::define::Role::{Final, Instruction, ListOnly, Once, Set};
use super::define::{ActionCode, KindInfo, actions};
use super::form::Shape::{Fixed, Min, U8, U16, U32, U64, Void};
use super::form::{FormInfo, nx, of, onf};
use super::{
    bundle, controller, copy, ct, encap, field, header, instruction, learn, metadata, mpls, multipath, nat,
    nest, output, pkt_len, resubmit, rule, sample, ttl, unit, vlan,
};
use crate::Version::{Of10, Of11, Of12, Of13, Of14, Of15};

actions! {
    Output(output::Output) "output" Final(3), output::Output::parse {
        Output10 Fixed(8), [of(0, Of10, Of10)], output::Output::decode10;
        Output11 Fixed(16), [of(0, Of11, Of15)], output::Output::decode11;
    }
    Group(output::Group) "group" Final(4), output::Group::parse {
        Group U32, [nx(40, Of10, Of10), of(22, Of11, Of15)], output::Group::decode;
    }
    Controller(Box<controller::Controller>) "controller" ListOnly, controller::Controller::parse {
        Controller Fixed(16), [nx(20, Of10, Of15)], controller::Controller::decode;
        Controller2 Min(16), [nx(37, Of10, Of15)], controller::Controller::decode2;
    }
    Enqueue(output::Enqueue) "enqueue" ListOnly, output::Enqueue::parse {
        Enqueue Fixed(16), [of(11, Of10, Of10)], output::Enqueue::decode;
    }
    OutputReg(output::OutputReg) "output_reg" ListOnly, output::Output::parse {
        OutputReg Fixed(24), [nx(15, Of10, Of15)], output::OutputReg::decode;
        OutputReg2 Fixed(24), [nx(32, Of10, Of15)], output::OutputReg::decode2;
    }
    Bundle(Box<bundle::Bundle>) "bundle" ListOnly, bundle::Bundle::parse {
        Bundle Min(32), [nx(12, Of10, Of15)], bundle::Bundle::decode;
        BundleLoad Min(32), [nx(13, Of10, Of15)], bundle::Bundle::decode_load;
    }
    SetField(field::SetField) "set_field" Set, field::SetField::parse {
        SetField12 Min(8), [of(25, Of12, Of14)], field::SetField::decode12;
        SetField15 Min(8), [of(25, Of15, Of15)], field::SetField::decode15;
        Load Fixed(24), [nx(7, Of10, Of14)], field::SetField::decode_load;
        Load2 Min(16), [nx(33, Of10, Of14)], field::SetField::decode_load2;
    }
    SetVlanVid(vlan::SetVlanVid) "set_vlan_vid" Set, vlan::SetVlanVid::parse {
        SetVlanVid10 U16, [of(1, Of10, Of10)], vlan::SetVlanVid::decode10;
        SetVlanVid11 U16, [of(1, Of11, Of15)], vlan::SetVlanVid::decode11;
    }
    SetVlanPcp(vlan::SetVlanPcp) "set_vlan_pcp" Set, vlan::SetVlanPcp::parse {
        SetVlanPcp10 U8, [of(2, Of10, Of10)], vlan::SetVlanPcp::decode10;
        SetVlanPcp11 U8, [of(2, Of11, Of15)], vlan::SetVlanPcp::decode11;
    }
    StripVlan(vlan::StripVlan) "strip_vlan" Once(0), vlan::StripVlan::parse {
        StripVlan Void, [of(3, Of10, Of10)], vlan::StripVlan::decode10;
        PopVlan Void, [of(18, Of11, Of15)], vlan::StripVlan::decode11;
    }
    PushVlan(vlan::PushVlan) "push_vlan" Once(5), vlan::PushVlan::parse {
        PushVlan U16, [of(17, Of11, Of15)], vlan::PushVlan::decode;
    }
    SetEthSrc(header::SetEthSrc) "mod_dl_src" Set, header::SetEthSrc::parse {
        SetEthSrc Fixed(16), [of(4, Of10, Of10), of(3, Of11, Of15)], header::SetEthSrc::decode;
    }
    SetEthDst(header::SetEthDst) "mod_dl_dst" Set, header::SetEthDst::parse {
        SetEthDst Fixed(16), [of(5, Of10, Of10), of(4, Of11, Of15)], header::SetEthDst::decode;
    }
    SetIpv4Src(header::SetIpv4Src) "mod_nw_src" Set, header::SetIpv4Src::parse {
        SetIpv4Src U32, [of(6, Of10, Of10), of(5, Of11, Of15)], header::SetIpv4Src::decode;
    }
    SetIpv4Dst(header::SetIpv4Dst) "mod_nw_dst" Set, header::SetIpv4Dst::parse {
        SetIpv4Dst U32, [of(7, Of10, Of10), of(6, Of11, Of15)], header::SetIpv4Dst::decode;
    }
    SetIpDscp(header::SetIpDscp) "mod_nw_tos" Set, header::SetIpDscp::parse {
        SetIpDscp U8, [of(8, Of10, Of10), of(7, Of11, Of15)], header::SetIpDscp::decode;
    }
    SetIpEcn(header::SetIpEcn) "mod_nw_ecn" Set, header::SetIpEcn::parse {
        SetIpEcn U8, [of(8, Of11, Of15)], header::SetIpEcn::decode;
    }
    SetIpTtl(header::SetIpTtl) "mod_nw_ttl" Set, header::SetIpTtl::parse {
        SetIpTtl U8, [of(23, Of11, Of15)], header::SetIpTtl::decode;
    }
    SetL4SrcPort(header::SetL4SrcPort) "mod_tp_src" Set, header::SetL4SrcPort::parse {
        SetL4SrcPort U16, [of(9, Of10, Of15)], header::SetL4SrcPort::decode;
    }
    SetL4DstPort(header::SetL4DstPort) "mod_tp_dst" Set, header::SetL4DstPort::parse {
        SetL4DstPort U16, [of(10, Of10, Of15)], header::SetL4DstPort::decode;
    }
    Move(Box<copy::Move>) "move" Set, copy::Move::parse {
        CopyField15 Min(16), [of(28, Of15, Of15)], copy::Move::decode15;
        CopyFieldOnf Min(24), [onf(3200, Of13, Of14)], copy::Move::decode_onf;
        Move Min(16), [nx(6, Of10, Of14)], copy::Move::decode_nx;
    }
    StackPush(copy::StackPush) "push" ListOnly, copy::StackPush::parse {
        StackPush Fixed(24), [nx(27, Of10, Of15)], copy::StackPush::decode;
    }
    StackPop(copy::StackPop) "pop" ListOnly, copy::StackPop::parse {
        StackPop Fixed(24), [nx(28, Of10, Of15)], copy::StackPop::decode;
    }
    DecTtl(ttl::DecTtl) "dec_ttl" Once(6), ttl::DecTtl::parse {
        DecTtl Void, [nx(18, Of10, Of10), of(24, Of11, Of15)], ttl::DecTtl::decode;
        DecTtlIds Min(16), [nx(21, Of10, Of15)], ttl::DecTtl::decode_ids;
    }
    SetMplsLabel(mpls::SetMplsLabel) "set_mpls_label" Set, mpls::SetMplsLabel::parse {
        SetMplsLabel U32, [nx(30, Of10, Of10), of(13, Of11, Of15)], mpls::SetMplsLabel::decode;
    }
    SetMplsTc(mpls::SetMplsTc) "set_mpls_tc" Set, mpls::SetMplsTc::parse {
        SetMplsTc U8, [nx(31, Of10, Of10), of(14, Of11, Of15)], mpls::SetMplsTc::decode;
    }
    SetMplsTtl(mpls::SetMplsTtl) "set_mpls_ttl" Set, mpls::SetMplsTtl::parse {
        SetMplsTtl U8, [nx(25, Of10, Of10), of(15, Of11, Of15)], mpls::SetMplsTtl::decode;
    }
    DecMplsTtl(unit::DecMplsTtl) "dec_mpls_ttl" Once(7), unit::DecMplsTtl::parse {
        DecMplsTtl Void, [nx(26, Of10, Of10), of(16, Of11, Of15)], unit::DecMplsTtl::decode;
    }
    PushMpls(mpls::PushMpls) "push_mpls" Once(4), mpls::PushMpls::parse {
        PushMpls U16, [nx(23, Of10, Of10), of(19, Of11, Of15)], mpls::PushMpls::decode;
    }
    PopMpls(mpls::PopMpls) "pop_mpls" Once(1), mpls::PopMpls::parse {
        PopMpls U16, [nx(24, Of10, Of10), of(20, Of11, Of15)], mpls::PopMpls::decode;
    }
    DecNshTtl(unit::DecNshTtl) "dec_nsh_ttl" Once(8), unit::DecNshTtl::parse {
        DecNshTtl Void, [nx(48, Of13, Of15)], unit::DecNshTtl::decode;
    }
    DeleteField(metadata::DeleteField) "delete_field" ListOnly, metadata::DeleteField::parse {
        DeleteField Fixed(24), [nx(50, Of10, Of15)], metadata::DeleteField::decode;
    }
    Encap(Box<encap::Encap>) "encap" Once(3), encap::Encap::parse {
        Encap Min(16), [nx(46, Of13, Of15)], encap::Encap::decode;
    }
    Decap(encap::Decap) "decap" Once(2), encap::Decap::parse {
        Decap Min(16), [nx(47, Of13, Of15)], encap::Decap::decode;
    }
    SetTunnel(Box<metadata::SetTunnel>) "set_tunnel" Set, metadata::SetTunnel::parse {
        SetTunnel U32, [nx(2, Of10, Of15)], metadata::SetTunnel::decode;
        SetTunnel64 U64, [nx(9, Of10, Of15)], metadata::SetTunnel::decode64;
    }
    SetQueue(metadata::SetQueue) "set_queue" Set, metadata::SetQueue::parse {
        SetQueue U32, [nx(4, Of10, Of10), of(21, Of11, Of15)], metadata::SetQueue::decode;
    }
    PopQueue(unit::PopQueue) "pop_queue" ListOnly, unit::PopQueue::parse {
        PopQueue Void, [nx(5, Of10, Of15)], unit::PopQueue::decode;
    }
    FinTimeout(rule::FinTimeout) "fin_timeout" ListOnly, rule::FinTimeout::parse {
        FinTimeout Fixed(16), [nx(19, Of10, Of15)], rule::FinTimeout::decode;
    }
    Resubmit(resubmit::Resubmit) "resubmit" Final(2), resubmit::Resubmit::parse {
        Resubmit U16, [nx(1, Of10, Of15)], resubmit::Resubmit::decode;
        ResubmitTable Fixed(16), [nx(14, Of10, Of15)], resubmit::Resubmit::decode_table;
        ResubmitTableCt Fixed(16), [nx(44, Of10, Of15)], resubmit::Resubmit::decode_table_ct;
    }
    Learn(Box<learn::Learn>) "learn" ListOnly, learn::Learn::parse {
        Learn Min(32), [nx(16, Of10, Of15)], learn::Learn::decode;
        Learn2 Min(40), [nx(45, Of10, Of15)], learn::Learn::decode2;
    }
    Conjunction(rule::Conjunction) "conjunction" ListOnly, rule::Conjunction::parse {
        Conjunction Fixed(16), [nx(34, Of10, Of15)], rule::Conjunction::decode;
    }
    Multipath(Box<multipath::Multipath>) "multipath" ListOnly, multipath::Multipath::parse {
        Multipath Fixed(32), [nx(10, Of10, Of15)], multipath::Multipath::decode;
    }
    Note(Box<rule::Note>) "note" ListOnly, rule::Note::parse {
        Note Min(16), [nx(8, Of10, Of15)], rule::Note::decode;
    }
    Exit(unit::Exit) "exit" ListOnly, unit::Exit::parse {
        Exit Void, [nx(17, Of10, Of15)], unit::Exit::decode;
    }
    Sample(Box<sample::Sample>) "sample" ListOnly, sample::Sample::parse {
        Sample Fixed(24), [nx(29, Of10, Of15)], sample::Sample::decode;
        Sample2 Fixed(32), [nx(38, Of10, Of15)], sample::Sample::decode2;
        Sample3 Fixed(32), [nx(41, Of10, Of15)], sample::Sample::decode3;
    }
    /// Never on the wire: marks where translation returns from another table.
    UnrollXlate(Box<unit::UnrollXlate>) "unroll_xlate" ListOnly, unit::UnrollXlate::parse {}
    Ct(Box<ct::Ct>) "ct" Final(0), ct::Ct::parse {
        Ct Min(24), [nx(35, Of10, Of15)], ct::Ct::decode;
    }
    CtClear(unit::CtClear) "ct_clear" Final(1), unit::CtClear::parse {
        CtClear Void, [nx(43, Of10, Of15)], unit::CtClear::decode;
    }
    Nat(Box<nat::Nat>) "nat" ListOnly, nat::Nat::parse {
        Nat Min(16), [nx(36, Of10, Of15)], nat::Nat::decode;
    }
    OutputTrunc(output::OutputTrunc) "output_trunc" ListOnly, output::OutputTrunc::parse {
        OutputTrunc Fixed(16), [nx(39, Of10, Of15)], output::OutputTrunc::decode;
    }
    Clone(Box<nest::CloneActions>) "clone" ListOnly, nest::CloneActions::parse {
        Clone Min(16), [nx(42, Of10, Of15)], nest::CloneActions::decode;
    }
    CheckPktLarger(pkt_len::CheckPktLarger) "check_pkt_larger" ListOnly, pkt_len::CheckPktLarger::parse {
        CheckPktLarger Min(24), [nx(49, Of10, Of15)], pkt_len::CheckPktLarger::decode;
    }
    DebugRecirc(unit::DebugRecirc) "debug_recirc" ListOnly, unit::DebugRecirc::parse {
        DebugRecirc Void, [nx(255, Of10, Of15)], unit::decode_debug_recirc;
    }
    DebugSlow(unit::DebugSlow) "debug_slow" ListOnly, unit::DebugSlow::parse {
        DebugSlow Void, [nx(254, Of10, Of15)], unit::decode_debug_slow;
    }
    Meter(instruction::Meter) "meter" Instruction(I::Meter), instruction::Meter::parse {
        Meter15 U32, [of(29, Of15, Of15)], instruction::Meter::decode;
    }
    ClearActions(unit::ClearActions) "clear_actions" Instruction(I::ClearActions), unit::ClearActions::parse {}
    WriteActions(Box<instruction::WriteActions>) "write_actions" Instruction(I::WriteActions),
        instruction::WriteActions::parse {}
    WriteMetadata(Box<instruction::WriteMetadata>) "write_metadata" Instruction(I::WriteMetadata),
        instruction::WriteMetadata::parse {
        WriteMetadata Fixed(32), [nx(22, Of10, Of15)], instruction::WriteMetadata::decode;
    }
    GotoTable(instruction::GotoTable) "goto_table" Instruction(I::GotoTable), instruction::GotoTable::parse {}
}

impl Form {
    pub(super) fn info(self) -> &'static FormInfo {
        &FORMS[self as usize]
    }
}
